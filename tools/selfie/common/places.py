"""Files by path or by address: what fsspec reaches (s3://bucket/pictures), for machines that share no disk.

A path is what it always was. An address has '://' and is read through fsspec and its package for that kind of store
(requirements-cluster.txt has that for S3), which take keys and endpoints from the environment or their own files.
"""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any

from selfie.common.errors import SelfieError


def is_address(place: str | os.PathLike) -> bool:
    """Tell whether a place is an address, not a path."""
    return "://" in os.fspath(place)


def join(place: str | os.PathLike, name: str) -> str:
    """Return the place of the file `name` below a folder or an address."""
    place = os.fspath(place)
    return posixpath.join(place, name) if is_address(place) else os.path.join(place, name)


def absolute(place: str | os.PathLike) -> str:
    """Return the place as other processes may use it: an address as it is, a path from the root on."""
    return os.fspath(place) if is_address(place) else os.path.abspath(place)


def is_folder(place: str | os.PathLike) -> bool:
    """Tell whether there is a folder at the place, or anything below the address."""
    if not is_address(place):
        return os.path.isdir(place)
    system, path = filesystem(os.fspath(place))
    try:
        with reached():
            return bool(system.isdir(path))
    except OSError as error:
        raise SelfieError(f"{place} cannot be reached: {error}") from error


def seen(names: Iterable[str], folder: str | os.PathLike = "") -> str | None:
    """Return the first file of the first hundred names that is there, by which others tell that they see the folder.

    None if there is none, or at an address: that is the same for all.
    """
    if is_address(folder):
        return None
    files = (os.path.join(folder, name) for name in islice(names, 100) if name and "\0" not in name)
    return next((absolute(file) for file in files if not is_address(file) and os.path.exists(file)), None)


def read(address: str, most: int | None = None) -> bytes:
    """Read what is at an address, or its first `most` bytes. FileNotFoundError, or another OSError."""
    system, path = filesystem(address)
    with reached():
        size = system.size(path)  # asked first: a store may refuse a range that ends behind the end
        if size == 0:
            return b""
        longer = most is not None and size is not None and size > most
        return bytes(system.cat_file(path, 0, most) if longer else system.cat_file(path))


@contextmanager
def reached() -> Iterator[None]:
    """Turn the errors of a store, each of which has its own, into OSError."""
    try:
        yield
    except (OSError, SelfieError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def filesystem(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it. SelfieError where there is none of that kind."""
    protocol, _, rest = address.partition("://")
    return _filesystem(protocol), rest


@cache
def _filesystem(protocol: str) -> Any:
    try:
        import fsspec

        for name in ("aiobotocore", "botocore"):  # they tell where they found their keys
            logging.getLogger(name).setLevel(logging.WARNING)
        return fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        raise SelfieError(
            f"{protocol}:// needs a package ({error}): .venv/bin/pip install -r requirements-cluster.txt"
        ) from error
    except ValueError as error:
        raise SelfieError(f"{protocol}:// is no kind of place that is known: {error}") from error
