"""What a packed store remembers of its sources, and whether they are still the same."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp")


def source_record(files: Iterable[Path], folders: Iterable[Path], root: Path) -> dict[str, Any]:
    """What a store remembers of its sources.

    Args:
        files: Annotation files, and some of the pictures: their hashes are kept, of those that can be read.
        folders: Folders of pictures: the hash of the pictures' names is kept.
        root: Folder of the data set, or its manifest; what lies in the folder is named relative to it.
    """
    base = _base(root)

    def name(path: Path) -> str:
        return str(path.relative_to(base) if path.is_relative_to(base) else path.resolve())

    return {
        "root": str(root.resolve()),
        "files": {name(file): file_digest(file) for file in sorted(files) if file.is_file()},
        "folders": {name(folder): names_digest(folder) for folder in sorted(folders) if folder.is_dir()},
    }


def times(source: Mapping[str, Any]) -> dict[str, int]:
    """When something in each of a record's folders was last added or removed, if it is there."""
    folders = {name: _base(Path(source["root"])) / name for name in source["folders"]}
    return {name: folder.stat().st_mtime_ns for name, folder in folders.items() if folder.is_dir()}


def changed_source(record: Mapping[str, Any]) -> str | None:
    """Which source is no longer what was packed, in words; None if all are, or are not on this machine.

    A folder whose time is that of the packing is not listed again. A picture that was overwritten in its
    place is noticed if it is one of those whose hash was kept.
    """
    source = record["source"]
    root = _base(Path(source["root"]))
    if not root.exists():
        return None
    for name, digest in source["files"].items():
        file = root / name
        if not file.is_file():
            return f"{file} is gone"
        if file_digest(file) != digest:
            return f"{file} has changed since"
    now = times(source)
    for name, digest in source["folders"].items():
        unchanged = name in now and now[name] == record["times"].get(name)
        if not unchanged and (name not in now or names_digest(root / name) != digest):
            return f"pictures were added to or removed from {root / name} since"
    return None


def _base(root: Path) -> Path:
    """A data set's folder; that of its manifest, if it is one."""
    return root.parent if root.is_file() else root


def names_digest(folder: Path) -> str:
    """SHA-256 over the sorted names of a folder's pictures."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(_PICTURES))
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def file_digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
