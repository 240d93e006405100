"""The project's folders, and the one way to write files: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from selfie.common import temporaries
from selfie.common.errors import SelfieError

if TYPE_CHECKING:
    import polars

ROOT = Path(__file__).resolve().parents[3]
PROTOTXT = ROOT / "prototxt"
SOLVER = ROOT / "solver"
BUILD = ROOT / "build"
DATA = ROOT / "data"
WEIGHTS = ROOT / "weights"
RUNS = ROOT / "runs"


def mirror(name: str) -> Path | None:
    """Find the file called `name` below the folder SELFIE_MIRROR (a local copy of downloads); None if it is not there.

    SelfieError if SELFIE_MIRROR is not a folder.
    """
    folder = os.environ.get("SELFIE_MIRROR")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise SelfieError(f"SELFIE_MIRROR is {folder}, which is not a folder: correct or unset it")
    return next((path for path in sorted(Path(folder).rglob(name)) if path.is_file()), None)


def existing(path: str | os.PathLike, what: str = "file") -> Path:
    """Return `path` as a Path if it is a file or a folder; SelfieError if it is missing, a pipe or a device."""
    path = Path(path)
    if not path.exists():
        raise SelfieError(f"no such {what}: {path}")
    return path if path.is_dir() else regular(path)


def existing_file(path: str | os.PathLike, what: str = "file") -> Path:
    """Return `path` as a Path if it is a file; SelfieError if it is missing, a folder, a pipe or a device."""
    return regular(existing(path, what))


def resolved(path: str | os.PathLike) -> Path:
    """Return `path` absolute and without links. (Path.resolve raises RuntimeError for a link that leads to itself.)"""
    return Path(os.path.realpath(path))


def read_text(path: str | os.PathLike, what: str = "file") -> str:
    """Read a text in UTF-8; SelfieError if the file is missing, no file (a pipe would keep us waiting), or no text."""
    path = existing_file(path, what)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SelfieError(f"{path} is damaged, or no text file: {error}") from error


def regular(path: Path) -> Path:
    """Return `path` if it is a file; SelfieError for a folder, a pipe or a device. OSError if it is missing."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise SelfieError(f"{path} is not a file")
    return path


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Open a temporary file beside `path`; on success fsync and rename it over `path`, on any error remove it.

    A reader, or a run after SIGKILL, sees the old file or the whole new one, never a part.
    """
    with atomic_path(path) as temporary, open(temporary, mode, newline="" if "b" not in mode else None) as file:
        yield file


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Like atomic_write, for libraries that want a file name: yield a temporary name with the same suffix.

    What killed processes left in the same folder is removed. SelfieError if `path` is a folder, or its parent cannot be
    one.
    """
    path = Path(path)
    if path.is_dir():
        raise SelfieError(f"cannot write {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SelfieError(f"cannot write {path}: {path.parent} is not a folder") from error
    temporaries.sweep(path.parent)
    with temporaries.made(path) as temporary:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        sync_folder(path.parent)


def check_inside(names: Iterable[str | None], table: object, outside: bool = False) -> None:
    """Raise SelfieError if names in `table`, relative to a folder of pictures, lead out of it; `outside` allows them.

    They do if they are absolute or have a '..'. Links in the folder are its owner's, and are followed.
    """
    if outside:
        return
    leading = [name for name in names if name is not None and (os.path.isabs(name) or ".." in Path(name).parts)]
    if leading:
        raise SelfieError(
            f"{table}: {len(leading)} paths lead out of --images, such as {leading[0]!r}: correct them, or allow them "
            f"with --outside"
        )


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename inside it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def empty(folder: Path, keep: tuple[str, ...] = ()) -> None:
    """Delete everything in a folder but the files and folders named in `keep`."""
    for path in list(folder.iterdir()):
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def write_csv(path: str | os.PathLike, frame: polars.DataFrame) -> None:
    """Write a table as CSV with a header, atomically."""
    with atomic_write(path, "wb") as file:
        file.write(frame.write_csv().encode())


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON object; SelfieError if the file is missing, not JSON or another value (`shapes.read` checks more)."""
    text = read_text(path)
    try:
        value = json.loads(text)
        if "\\u" in text and not is_text(value):
            raise ValueError("half of a character")
    except (ValueError, RecursionError) as error:
        raise SelfieError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise SelfieError(f"{path} is damaged, or not a file of this project: it is not a JSON object")
    return value


def is_text(value: Any) -> bool:
    """Whether all texts in a JSON value are Unicode: half a surrogate pair is none, and no table holds it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, as hex; the file is read in pieces."""
    return digest(path, "sha256")


def digest(path: str | os.PathLike, algorithm: str) -> str:
    """Digest of a file's content under any hashlib `algorithm`, as hex; the file is read in pieces."""
    state = hashlib.new(algorithm)
    with open(regular(Path(path)), "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def shown(path: Path) -> str:
    """Return `path` relative to the project if it is inside, so that run folders survive a move of the project."""
    path = path.absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
