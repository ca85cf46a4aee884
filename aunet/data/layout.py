"""Finds crops and annotations of Aff-Wild2 in the spellings that are in use, by name and by content."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from aunet.data.frames import DataError

SPLIT_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train_set", "training_set", "train", "training"),
    "val": ("validation_set", "val_set", "validation", "val"),
}
"""Names of the splits' folders, compared without regard to case; blanks and hyphens read as underscores."""

CROP_FOLDERS = ("cropped_aligned", "cropped_aligned_images", "images", "faces", "crops")
"""Names of the crops' folder, in order of preference, compared likewise."""

HEADER = re.compile(r"AU\s*0*(\d+)", re.IGNORECASE)
"""A column's name in the first line of an annotation file."""

_DEPTH = 3


def _normal(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """``folder`` and the folders below it, nearest first; crop folders are not descended into."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [
            child
            for parent in level
            if _normal(parent.name) not in CROP_FOLDERS or parent == folder
            for child in _subfolders(parent)
        ]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:  # unlike Path.iterdir, asks nothing about each of a million crops
            return sorted(Path(entry) for entry in entries if entry.is_dir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None


def find_split_folders(root: Path, annotations: str | Path | None) -> dict[str, Path]:
    """The folders of the splits' AU annotation files.

    Args:
        root: Folder of the data set.
        annotations: Folder that holds the splits' folders, absolute or within ``root``; searched for if None,
            up to three levels deep.

    Returns:
        Folder of "train" and of "val".

    Raises:
        DataError: There are none, or several to choose from.
    """
    start, depth = (root, _DEPTH) if annotations is None else (root / annotations, 1)
    if not start.is_dir():
        raise DataError(f"data.read.annotations={annotations}: {start} is not a folder")
    found = []
    for folder in _folders(start, depth):
        children = {_normal(child.name): child for child in _subfolders(folder)}
        splits = {
            split: next((children[name] for name in spellings if name in children), None)
            for split, spellings in SPLIT_FOLDERS.items()
        }
        if all(child is not None and _holds_aus(child) for child in splits.values()):
            found.append({split: child for split, child in splits.items() if child is not None})
    if not found:
        raise DataError(
            f"{start} holds no AU annotations: expected a folder such as 'Third ABAW Annotations/"
            f"AU_Detection_Challenge' with Train_Set and Validation_Set, in them <video>.txt files that "
            f"begin with AU1,AU2,... (name the folder by data.read.annotations=FOLDER)"
        )
    if len(found) > 1:
        parents = [splits["train"].parent for splits in found]
        options = ", ".join(f"'{p.relative_to(root) if p.is_relative_to(root) else p}'" for p in parents)
        raise DataError(
            f"{root} holds several sets of AU annotations: choose one by data.read.annotations: {options}"
        )
    return found[0]


def annotation_files(folder: Path) -> list[Path]:
    """A split's annotation files, sorted; hidden ones (macOS leaves ``._<video>.txt``) are none."""
    return sorted(file for file in folder.glob("*.txt") if not file.name.startswith("."))


def _holds_aus(folder: Path) -> bool:
    """Whether the first annotation file with a header has one of AUs (not of expressions or valence)."""
    for file in annotation_files(folder):
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            if header := lines.readline().strip():
                return HEADER.match(header) is not None
    return False


def find_crop_folder(root: Path, crops: str | Path | None, videos: set[str]) -> Path:
    """The folder with a sub-folder of crops for each video.

    Args:
        root: Folder of the data set.
        crops: The crop folder, absolute or within ``root``; searched for by its name (CROP_FOLDERS) if None.
        videos: Names of the annotated videos, of which it must hold one.

    Raises:
        DataError: There is none.
    """
    if crops is not None:
        folder = root / crops
        if not folder.is_dir():
            raise DataError(f"data.read.crops={crops}: {folder} is not a folder")
        return folder
    named = [folder for folder in _folders(root, 2) if _normal(folder.name) in CROP_FOLDERS]
    named.sort(key=lambda folder: CROP_FOLDERS.index(_normal(folder.name)))
    for folder in named:
        if any((folder / video).is_dir() for video in videos):
            return folder
    looked = f"; {named[0]} has none" if named else ""
    raise DataError(
        f"{root} holds no crops of the annotated videos: expected cropped_aligned/<video>/00001.jpg (or a "
        f"folder named images or faces){looked} (name the folder by data.read.crops=FOLDER)"
    )
