"""The weights of a Keras model in HDF5: each layer's kernel and bias, whichever Keras wrote the file.

    weights          a group for each layer, called as the layer, with its arrays in it or below (Keras 1 to 3)
    whole model      the same below the group model_weights
    .weights.h5      layers/<kind>_<number>/vars/0 and 1; the attribute `name` of vars is the layer's (Keras 3)

A model that is a layer of another one may stand deeper. Links into other files are not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selfie.common.errors import SelfieError

if TYPE_CHECKING:
    import h5py

# Where the layers stand, if there is such a group; an optimizer's copies of them do not.
ROOTS = ("model_weights", "layers", "_layer_checkpoint_dependencies")
NEEDED = "this file needs {} ({}): run '.venv/bin/python -m pip install -r requirements-convert.txt'"
MOST = 10_000  # objects in a file: a model of Keras' has some hundred


class KerasFile:
    """A file's layers; make it with `opened`."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        import h5py

        self._path = path
        self._layers: dict[str, list[h5py.Dataset]] = {}
        root = next((file[name] for name in ROOTS if isinstance(file.get(name), h5py.Group)), file)
        seen: list[tuple[str, Any]] = []

        def note(name: str, thing: Any) -> bool | None:
            seen.append((name, thing))
            return True if len(seen) > MOST else None

        if root.visititems(note):  # hard links alone, each thing once
            raise ValueError(f"it holds over {MOST:,} things")
        names = {path: _layer(path, thing) for path, thing in seen if isinstance(thing, h5py.Group)}
        for path_inside, thing in seen:
            if isinstance(thing, h5py.Dataset):
                parents = path_inside.split("/")[:-1]
                trails = ("/".join(parents[:end]) for end in range(len(parents), 0, -1))
                layer = next((names[trail] for trail in trails if names.get(trail)), "")
                self._layers.setdefault(layer, []).append(thing)

    def __contains__(self, layer: str) -> bool:
        return layer in self._layers

    def shapes(self, layer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of a layer's kernel and bias. SelfieError if it does not have just these."""
        kernel, bias = self._pair(layer)
        return kernel.shape, bias.shape

    def read(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """Read a layer's kernel and bias as float32. SelfieError if they cannot be read."""
        kernel, bias = self._pair(layer)
        with _damage_named(self._path):
            return np.asarray(kernel[...], np.float32), np.asarray(bias[...], np.float32)

    def _pair(self, layer: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        """Return a layer's kernel and bias."""
        with _damage_named(self._path):
            return self._checked_pair(layer)

    def _checked_pair(self, layer: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        arrays = sorted(self._layers[layer], key=lambda one: -one.ndim)
        if [one.ndim > 1 for one in arrays] != [True, False] or any(one.dtype.kind != "f" for one in arrays):
            raise SelfieError(f"{self._path}: {layer} is not one kernel and one bias of numbers")
        if any(one.external or one.is_virtual for one in arrays):
            raise SelfieError(f"{self._path}: the numbers of {layer} stand in another file, which is not read")
        return arrays[0], arrays[1]


def _layer(path: str, group: Any) -> str:
    """Name the layer that a group is of; "" for one that only holds arrays of its layer."""
    base = path.rpartition("/")[2]
    if base != "vars":
        return base
    name = group.attrs.get("name", "")
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def is_caffes(path: Path) -> bool:
    """Tell whether an HDF5 file is one of Caffe's: its weights stand in the group data, numbered in each layer's.

    By its name, where h5py is missing or the file is damaged.
    """
    try:
        import h5py

        with h5py.File(path, "r") as file:
            groups = set(file)
            data = file.get("data")
            if isinstance(data, h5py.Group) and groups <= {"data", "diff"}:
                return not data.visititems(lambda name, thing: None if _is_numbered(name, thing) else True)
            return {"iter", "history"} <= groups  # the state of a solver
    except Exception:
        return path.name.endswith((".caffemodel.h5", ".solverstate.h5"))


def _is_numbered(name: str, thing: Any) -> bool:
    """Whether what stands in a file of Caffe's is a group of a layer, or an array that is called by its number."""
    return hasattr(thing, "keys") or name.rpartition("/")[2].isdecimal()


@contextmanager
def opened(path: Path) -> Iterator[KerasFile]:
    """Open a file of Keras' for reading; SelfieError if it is damaged or something else."""
    try:
        import h5py
    except ImportError as error:
        raise SelfieError(NEEDED.format("h5py", error)) from error

    with ExitStack() as stack:
        with _damage_named(path):
            layers = KerasFile(path, stack.enter_context(h5py.File(path, "r")))
        yield layers


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 meets in a damaged file, which h5py tells in many ways, into a SelfieError."""
    try:
        yield
    except SelfieError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise SelfieError(f"{path} is damaged, or no file of Keras' ({why})") from error
