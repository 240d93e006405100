"""A file of torch.save read without PyTorch, and without executing anything that stands in it.

Such a file is a pickle, which can call any function there is. This one is taken apart, opcode by opcode (pickletools),
into plain values, calls that are noted and never made, and tensors that say where their numbers lie. Names that a state
of tensors has no need of are refused. Two formats are read:

    zip     since PyTorch 1.6: <name>/data.pkl, and each storage as <name>/data/<key>, stored and not compressed
    before  pickles one behind the other: a magic number, the version, the system, the state, the list of storages; then
            of each storage its length (int64) and its numbers
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfie.common.errors import DAMAGED_ZIP, SelfieError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
LEGACY = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")  # how a file of the older format begins
MOST = 1 << 24  # bytes of pickles: those of VGG16 have some thousand
STORAGES = {
    **{"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "bf16"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1"},
}
REBUILD = {"torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"}
PARAMETER = {"torch._utils _rebuild_parameter", "torch.nn.parameter Parameter"}  # a tensor is their first argument
NAMES = REBUILD | PARAMETER | {"collections OrderedDict"} | {f"torch {name}" for name in STORAGES}


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: numbers `offset`, ... of the storage called `key`, laid out by sizes and strides."""

    key: str
    kind: str
    numbers: int  # of the whole storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for: 'module name'."""

    name: str


class _Unwanted(Exception):
    """A pickle asks for this name, which is not allowed."""


class State:
    """The tensors of a file by name. SelfieError if it cannot be read, or holds more than tensors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._open()
        except _Unwanted as error:
            raise SelfieError(
                f"{path} asks for {error}, which a state of tensors has no need of: it may be made to do harm, and "
                f"nothing of it was executed"
            ) from error
        # pickletools, zipfile and our own steps meet whatever bytes there are: each fails in its own way.
        except Exception as error:
            raise SelfieError(f"{path} is damaged, or no state of PyTorch's ({_first_line(error)})") from error

    def _open(self) -> None:
        """Read the pickles, and note where the storages lie."""
        self._places: dict[str, int] = {}  # of the older format: where the numbers of each storage begin
        self._archive = zipfile.ZipFile(self._path) if zipfile.is_zipfile(self._path) else None
        if self._archive:
            self._folder, state = self._read_zip(self._archive)
        else:
            state = self._read_legacy()
        if not isinstance(state, dict):
            raise ValueError("it is not a table of tensors")
        if isinstance(state.get("state_dict"), dict):  # what trainings save beside other things
            state = state["state_dict"]
        self.tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}

    def _read_zip(self, archive: zipfile.ZipFile) -> tuple[str, Any]:
        """Return the folder in an archive, and its state."""
        pickles = [entry for entry in archive.infolist() if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("an archive without the one data.pkl")
        folder = pickles[0].filename.rpartition("/")[0]
        order = f"{folder}/byteorder"
        if order in archive.namelist() and _content(archive, order, 64) != b"little":
            raise ValueError("its bytes are in the order of another kind of machine")
        return folder, _Reader(io.BytesIO(_content(archive, pickles[0].filename, MOST))).read()

    def _read_legacy(self) -> Any:
        """Return the state of a file of the older format, and find its storages."""
        with open(self._path, "rb") as file:
            pickles = io.BytesIO(file.read(MOST))
            if _Reader(pickles).read() != MAGIC or _Reader(pickles).read() != VERSION:
                raise ValueError("it does not begin as one")
            system = _Reader(pickles).read()
            if not isinstance(system, dict) or system.get("little_endian") is not True:
                raise ValueError("its bytes are in the order of another kind of machine")
            reader = _Reader(pickles)
            state, keys = reader.read(), _Reader(pickles).read()
            file.seek(pickles.tell())
            for key in keys:
                length, (kind, numbers) = int.from_bytes(file.read(8), "little"), reader.storages[key]
                if length != numbers:
                    raise ValueError(f"storage {key} has {length} numbers, not {numbers}")
                self._places[key] = file.tell()
                file.seek(length * _width(kind), io.SEEK_CUR)
        return state

    def read(self, name: str) -> np.ndarray:
        """Read the tensor called `name` as float32, in the shape that `tensors` says. SelfieError if it is damaged."""
        tensor = self.tensors[name]
        try:
            last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides))
            whole = (*tensor.shape, *tensor.strides, tensor.offset, tensor.numbers)
            if min(whole) < 0 or min(tensor.shape, default=1) < 1 or last >= tensor.numbers:
                raise ValueError("it reaches beyond its storage")
            numbers = self._numbers(tensor)[tensor.offset :]
            strides = [step * numbers.itemsize for step in tensor.strides]
            laid_out = np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)
            if tensor.kind == "bf16":  # the upper half of a float32
                return (laid_out.astype("<u4") << 16).view("<f4")
            return np.ascontiguousarray(laid_out, "<f4")
        except (OSError, *DAMAGED_ZIP) as error:
            raise SelfieError(f"{self._path} is damaged: {name} ({_first_line(error)})") from error

    def _numbers(self, tensor: Tensor) -> np.ndarray:
        """Read a whole storage."""
        kind = "<u2" if tensor.kind == "bf16" else tensor.kind
        if self._archive:
            size = tensor.numbers * _width(tensor.kind)
            data = _content(self._archive, f"{self._folder}/data/{tensor.key}", size)
            if len(data) != size:
                raise ValueError(f"storage {tensor.key} has {len(data)} bytes, not {size}")
            return np.frombuffer(data, kind)
        numbers = np.fromfile(self._path, kind, tensor.numbers, offset=self._places[tensor.key])
        if len(numbers) != tensor.numbers:
            raise ValueError("the file ends too early")
        return numbers


def _content(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Read a file of an archive; ValueError where PyTorch cannot have written it."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most:
        raise ValueError(f"{name} is compressed, or larger than it can be")
    return archive.read(entry)


def _width(kind: str) -> int:
    return 2 if kind == "bf16" else np.dtype(kind).itemsize


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


class _Reader:
    """Reads one pickle of a stream: numbers, texts, tuples, lists, tables by text, and tensors; all else is refused.

    storages   key -> (kind, count of numbers) of what the pickle speaks of
    """

    def __init__(self, stream: io.BytesIO) -> None:
        self.storages: dict[str, tuple[str, int]] = {}
        self._stream = stream
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}

    def read(self) -> Any:
        """Read the pickle; the stream is then behind it. _Unwanted for a name that is not allowed."""
        for opcode, argument, _ in pickletools.genops(self._stream):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("it has no end")

    def _step(self, opcode: str, argument: Any) -> None:
        """Do what an opcode says, as far as it makes plain values."""
        if opcode in ("PROTO", "FRAME"):
            return
        if opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            self._stack.append(argument)
        elif opcode in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memory[len(self._memory) if argument is None else argument] = self._stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memory[argument])
        elif opcode == "MARK":
            self._marks.append(len(self._stack))
        elif opcode in _TUPLES:
            self._stack.append(tuple(self._take(_TUPLES[opcode])))
        elif opcode in ("APPEND", "APPENDS"):
            values = self._take(1 if opcode == "APPEND" else None)
            self._on_top(list).extend(values)
        elif opcode in ("SETITEM", "SETITEMS"):
            pairs = self._take(2 if opcode == "SETITEM" else None)
            self._on_top(dict).update({_text(name): value for name, value in zip(pairs[::2], pairs[1::2])})
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            self._stack.append(_allowed(argument or " ".join(map(_text, self._take(2)))))
        elif opcode == "BINPERSID":
            self._stack.append(self._storage(*self._take(1)))
        elif opcode == "REDUCE":
            self._stack.append(_called(*self._take(2)))
        elif opcode == "BUILD":  # attributes, such as the versions of a state's modules: not needed
            self._take(1)
        else:
            raise ValueError(f"opcode {opcode}, which a state of tensors has no need of")

    def _take(self, count: int | None) -> list[Any]:
        """Take `count` values off the stack; None: all since the last mark."""
        start = self._marks.pop() if count is None else len(self._stack) - count
        if not 0 <= start <= len(self._stack):
            raise ValueError("it takes more than there is")
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _on_top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise ValueError(f"it fills what is no {kind.__name__}")
        return self._stack[-1]

    def _storage(self, described: Any) -> tuple[str, str, int]:
        """Note a storage: ('storage', kind, key, place, count), and in the older format a view of another, or None."""
        word, kind, key, _, count, *view = described
        if word != "storage" or not isinstance(kind, _Global) or view not in ([], [None]):
            raise ValueError("a storage of an unknown form")
        storage = _text(key), STORAGES[kind.name.partition(" ")[2]], _whole(count)
        self.storages[storage[0]] = storage[1:]
        return storage


_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_TUPLES = {"TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _allowed(name: str) -> _Global:
    if name not in NAMES:
        raise _Unwanted(name.replace(" ", "."))
    return _Global(name)


def _called(function: Any, arguments: Any) -> Any:
    """Return what a call stands for: an empty table, a tensor, or a parameter, which is its tensor."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise ValueError("a call of what is no function")
    if function.name == "collections OrderedDict" and not arguments:
        return {}
    if function.name in PARAMETER and arguments and isinstance(arguments[0], Tensor):
        return arguments[0]
    if function.name in REBUILD:
        (key, kind, numbers), offset, shape, strides = arguments[:4]
        if len(shape) != len(strides):
            raise ValueError("a tensor of an unknown form")
        return Tensor(key, kind, numbers, _whole(offset), tuple(map(_whole, shape)), tuple(map(_whole, strides)))
    raise ValueError(f"a call of {function.name} of an unknown form")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a name that is no text")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise ValueError("a count that is no whole number")
    return value
