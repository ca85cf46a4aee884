"""What a packed store remembers of its sources, and whether they are still the same."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def source_record(files: Iterable[Path], folders: Iterable[Path], root: Path) -> dict[str, Any]:
    """What a store remembers of its sources.

    Args:
        files: Annotation files, and some of the pictures: their hashes are kept.
        folders: Folders of pictures: the time when a picture was last added or removed is kept.
        root: Folder of the data set, or its manifest; what lies in the folder is named relative to it.
    """
    base = _base(root)

    def name(path: Path) -> str:
        return str(path.relative_to(base) if path.is_relative_to(base) else path.resolve())

    return {
        "root": str(root.resolve()),
        "files": {name(file): file_digest(file) for file in sorted(files)},
        "folders": {name(folder): folder.stat().st_mtime_ns for folder in sorted(folders)},
    }


def changed_source(record: dict[str, Any]) -> str | None:
    """Which source is no longer what was packed, in words; None if all are, or are not on this machine."""
    root = _base(Path(record["source"]["root"]))
    if not root.exists():
        return None
    for name, digest in record["source"]["files"].items():
        file = root / name
        if not file.is_file():
            return f"{file} is gone"
        if file_digest(file) != digest:
            return f"{file} has changed since"
    for name, changed in record["source"]["folders"].items():
        folder = root / name
        if not folder.is_dir() or folder.stat().st_mtime_ns != changed:
            return f"pictures were added to or removed from {folder} since"
    return None


def _base(root: Path) -> Path:
    """A data set's folder; that of its manifest, if it is one."""
    return root.parent if root.is_file() else root


def file_digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
