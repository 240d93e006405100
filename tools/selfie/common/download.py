"""Downloads with a checksum: copied from a local mirror where there is one, resumed where they broke off.

A file gets its name only after its checksum was found right, and one process at a time brings it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from selfie.common import locks, paths
from selfie.common.errors import SelfieError


@dataclass(frozen=True)
class Source:
    """A file to fetch. `checksum`: '<algorithm>:<hex>', or '' where none was ever published."""

    url: str
    checksum: str = ""

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[1]


def download(source: Source, path: Path, unverified: bool = False) -> None:
    """Bring `source` to `path`: keep a file with the right checksum, else copy from the mirror, else download.

    A download that broke off is resumed. SelfieError for a wrong checksum, for a source without one unless `unverified`
    is set, where the file cannot be had, and while another process brings it.
    """
    if not (source.checksum or unverified):
        raise SelfieError(f"{source.file} was published without a checksum, so what comes cannot be checked")
    with locks.file(path):
        if path.exists() and is_right(path, source.checksum):
            return
        if copy := paths.mirror(source.file):
            with paths.atomic_path(path) as temporary:
                shutil.copyfile(copy, temporary)
                _check(temporary, source)
            return
        part = path.with_name(path.name + ".part")
        _fetch(source.url, part)
        try:
            _check(part, source)
        except SelfieError:
            part.unlink()
            raise
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        paths.sync_folder(path.parent)


def checksum(text: str) -> str:
    """Read a checksum that a user gives, '<algorithm>:<hex>' or the hex digits of a SHA-256; SelfieError for others."""
    algorithm, _, digits = text.strip().lower().rpartition(":")
    algorithm = algorithm or "sha256"
    lengths = {name: 2 * hashlib.new(name).digest_size for name in hashlib.algorithms_guaranteed}
    if not lengths.get(algorithm) or not re.fullmatch("[0-9a-f]+", digits) or len(digits) != lengths[algorithm]:
        raise SelfieError(f"'{text}' is not a checksum: write sha256: and its 64 hexadecimal digits")
    return f"{algorithm}:{digits}"


def is_right(path: Path, checksum: str) -> bool:
    """Compare a file with a checksum; without one, any is right."""
    if not checksum:
        return True
    algorithm, expected = checksum.split(":")
    return paths.digest(path, algorithm) == expected


def _check(path: Path, source: Source) -> None:
    """Raise SelfieError if a file that was brought has a wrong checksum."""
    if not is_right(path, source.checksum):
        raise SelfieError(
            f"{source.file} has a wrong checksum and was removed: try again, or check the copy in SELFIE_MIRROR"
        )


def _fetch(url: str, part: Path) -> None:
    """Download what `part` still lacks of `url`, and append it; SelfieError with advice where that fails."""
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            resumed = answer.status == 206
            left = int(answer.headers.get("Content-Length") or 0)
            start = have if resumed else 0
            with (
                open(part, "ab" if resumed else "wb") as file,
                tqdm(total=start + left or None, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar,
            ):
                while block := answer.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
            size = part.stat().st_size
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch: the part is whole
            return
        raise SelfieError(
            f"cannot download {url}: the server answers {error.code}; get the file by other means and "
            f"set SELFIE_MIRROR to its folder"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SelfieError(
            f"cannot download {url} (offline?): try again (it resumes), or get the file by other means "
            f"and set SELFIE_MIRROR to its folder"
        ) from error
    if left and size < start + left:
        raise SelfieError(f"the download of {url} broke off at {size:,} bytes: run the same command again, it resumes")
