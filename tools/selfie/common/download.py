"""Downloads with a checksum: copied from a local mirror where there is one, resumed where they broke off."""

from __future__ import annotations

import errno
import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from selfie.common import paths
from selfie.common.errors import SelfieError


@dataclass(frozen=True)
class Source:
    """A file to fetch. `checksum`: '<algorithm>:<hex>', or '' where none was ever published.

    In that case the first download's sha256 is recorded beside the file and checked from then on.
    """

    url: str
    checksum: str = ""

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[1]


def download(source: Source, path: Path) -> None:
    """Bring `source` to `path`: keep a file with the right checksum, else copy from the mirror, else download.

    A download that broke off is resumed. SelfieError for a wrong checksum and where the file cannot be had.
    """
    if path.exists() and _is_right(path, source):
        return
    if copy := paths.mirror(source.file):
        with paths.atomic_path(path) as temporary:
            shutil.copyfile(copy, temporary)
    else:
        part = path.with_name(path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch(source.url, part)
        os.replace(part, path)
    if not _is_right(path, source):
        path.unlink()
        raise SelfieError(
            f"{source.file} has a wrong checksum and was removed: try again, or check the copy in SELFIE_MIRROR"
        )
    if not source.checksum:
        with paths.atomic_write(_record(path)) as file:
            file.write(f"{paths.sha256(path)}  {path.name}\n")


def _record(path: Path) -> Path:
    """The file beside a download that keeps its checksum where none was published."""
    return path.with_name(path.name + ".sha256")


def _is_right(path: Path, source: Source) -> bool:
    """Compare a file with its checksum, published or recorded; a first download is right."""
    if source.checksum:
        algorithm, expected = source.checksum.split(":")
        return paths.digest(path, algorithm) == expected
    record = _record(path)
    return not record.exists() or record.read_text().split()[0] == paths.sha256(path)


def _fetch(url: str, part: Path) -> None:
    """Download what `part` still lacks of `url`, and append it; SelfieError with advice where that fails."""
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
