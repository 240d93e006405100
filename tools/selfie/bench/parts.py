"""A folder as a tar.xz in parts of a given size."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path
from typing import IO, cast


class Parts:
    """A file to write that goes on in the next part when one is full.

    paths   of the parts so far, folder/selfie-gpu.NN
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.paths: list[Path] = []
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> int:
        """Write all of `data`; returns its length."""
        view = memoryview(data)
        while view:
            file = self._with_room()
            room = self.size - file.tell()
            file.write(view[:room])
            view = view[room:]
        return len(data)

    def close(self) -> None:
        """Close the last part."""
        if self._file is not None:
            self._file.close()

    def _with_room(self) -> IO[bytes]:
        """Return the part that is being written, or the next one if that is full."""
        if self._file is None or self._file.tell() == self.size:
            self.close()
            self.paths.append(self.folder / f"selfie-gpu.{len(self.paths):02d}")
            self._file = open(self.paths[-1], "wb")  # noqa: SIM115  closed when the next begins
        return self._file


def split(root: Path, folder: Path, size: int, preset: int) -> list[Path]:
    """Pack the content of `root` as a tar.xz into parts of at most `size` bytes in `folder`; their paths in order."""
    parts = Parts(folder, size)
    with (
        lzma.open(cast("IO[bytes]", parts), "wb", preset=preset) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for path in sorted(root.iterdir()):
            archive.add(path, path.name)
    parts.close()
    return parts.paths
