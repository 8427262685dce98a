"""Folders and zip archives of images as named bytes, in the layout of the official StyleGAN tools.

A zip archive is read in place: nothing is unpacked, and names inside it are keys, never paths.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from mssg.data.cohort import LeftOut
from mssg.data.cohort_files import unreadable, walk
from mssg.errors import DataError

LABELS = "dataset.json"
PARTS = {"trainset": "train", "valset": "val", "testset": "test"}
"""Folders into which the research code divides its data, each with its own dataset.json, and their splits."""
LARGEST_FILE = 64 * 2**20
"""Bytes of one unpacked image above which an archive is refused."""


class FolderArchive:
    """Files below a folder by relative name with forward slashes; hidden folders are not searched.

    Attributes:
        left: What is not read of it, and why.
    """

    def __init__(self, path: Path, allowed: Sequence[Path] = ()) -> None:
        self.left: list[LeftOut] = []
        homes, names = [home.resolve() for home in (path, *allowed)], dict[str, Path]()
        for file in sorted(walk(path, self.left)):
            name = file.relative_to(path).as_posix()
            if problem := unreadable(file, homes):
                self.left.append(LeftOut(name, "files", problem))
            else:
                names[name] = file
        self._files = {key: names[name] for key, name in _keys(path, names, self.left).items()}

    def __enter__(self) -> FolderArchive:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def names(self) -> list[str]:
        """All names, in order."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """A file's content."""
        return self._files[name].read_bytes()


class ZipArchive:
    """Members of a zip archive by name; nothing is written to disk.

    Attributes:
        left: What is not read of it, and why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise DataError(f"not a readable zip archive: {error}", file=path) from None
        self.left: list[LeftOut] = []
        members = [m for m in self._zip.infolist() if m.filename and not m.is_dir()]
        keys = _keys(path, [member.filename for member in members], self.left)
        by_name = {member.filename: member for member in members}
        self._members = {key: by_name[name] for key, name in keys.items()}

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        """All names, in order."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """A member's content, unpacked.

        Raises:
            DataError: It is too large, damaged or encrypted.
        """
        member = self._members[name]
        limit = LARGEST_FILE if name != LABELS else 16 * LARGEST_FILE
        if member.file_size > limit:
            raise DataError(
                "member is too large",
                file=self._path,
                field=name,
                found=f"{member.file_size} bytes",
                expected=f"at most {limit}",
            )
        try:
            # the size in the directory may lie: never read more than it says
            with self._zip.open(member) as stream:
                return stream.read(member.file_size + 1)[: member.file_size]
        except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(
                f"damaged or encrypted member: {error}",
                file=self._path,
                field=name,
                hint="Make the archive again",
            ) from None


def open_archive(path: Path, allowed: Sequence[Path] = ()) -> FolderArchive | ZipArchive:
    """A folder or a zip archive as named bytes: `names()` and `read(name)`; a context manager.

    Args:
        allowed: Further folders that links of a folder may lead to.

    Raises:
        DataError: Neither of them, or one that holds several data sets or one name twice.
    """
    if path.is_dir():
        return FolderArchive(path, allowed)
    if path.is_file():
        return ZipArchive(path)
    raise DataError("no such file or folder", file=path, expected="a folder or a zip archive with images")


def plain_name(name: str) -> str:
    """A name with forward slashes, whatever system has written it."""
    return name.replace("\\", "/").removeprefix("./")


def _keys(path: Path, names: Iterable[str], left: list[LeftOut]) -> dict[str, str]:
    """Names as dataset.json means them -> names as they are: without what systems add (macOS's __MACOSX and
    ._ files), and below the one folder that holds dataset.json.

    Args:
        path: The archive's, for messages.
        names: All of its files.
        left: What lies outside that folder is added here.

    Raises:
        DataError: There are several dataset.json (but for those of `PARTS`), or two files of one name.
    """
    kept: dict[str, str] = {}
    for name in names:
        key = plain_name(name)
        if re.search(r"(^|/)(__MACOSX/|\._|\.DS_Store$)", key):
            continue
        if key.lower().rpartition("/")[2] == LABELS:
            key = key[: -len(LABELS)] + LABELS
        if key in kept:
            hint = "Remove one of them"
            raise DataError("holds two files of one name", file=path, field=key, hint=hint)
        kept[key] = name
    found = [key for key in kept if key == LABELS or key.endswith(f"/{LABELS}")]
    if LABELS in found or not found:
        return kept
    folders = [key.removesuffix(f"/{LABELS}") for key in found]
    above = {folder.rpartition("/")[0] for folder in folders}
    divided = len(above) == 1 and {folder.rpartition("/")[2] for folder in folders} <= set(PARTS)
    if len(found) > 1 and not divided:
        raise DataError(
            "holds several data sets",
            file=path,
            field=LABELS,
            found=", ".join(found[:3]),
            hint="Prepare each of their folders",
        )
    home = folders[0] if len(found) == 1 else above.pop()
    folder = f"{home}/" if home else ""
    left += [LeftOut(k, "files", f"outside of {folder}") for k in kept if not k.startswith(folder)]
    return {key.removeprefix(folder): name for key, name in kept.items() if key.startswith(folder)}
