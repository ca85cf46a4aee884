"""Finds crops and annotations of Aff-Wild2 in the spellings that are in use, by name and by content."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from aunet.data.annotations import AU_NAME, LIST_COLUMNS
from aunet.data.faults import DataError

SPLIT_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train_set", "training_set", "train", "training"),
    "val": ("validation_set", "val_set", "validation", "val"),
}
"""Names of the splits' folders, compared without regard to case; blanks and hyphens read as underscores."""

CROP_FOLDERS = ("cropped_aligned", "images", "faces", "crops")
"""Beginnings of the names of crop folders, in order of preference, compared likewise."""

LIST_NAMES = {"train": re.compile(r"(^|_)train(ing)?(_|$)"), "val": re.compile(r"(^|_)val(idation)?(_|$)")}
"""What the name of a one-file list says about its split, compared likewise, without its suffix."""

_DEPTH = 3


def _normal(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """``folder`` and those below it, nearest first; in a crop folder only another one, left by an archive."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [
            child
            for parent in level
            for child in _subfolders(parent, listable_only=parent != folder)
            if parent == folder or not _is_crop_folder(parent) or _is_crop_folder(child)
        ]


def _subfolders(folder: Path, listable_only: bool = False) -> list[Path]:
    """Sorted folders in a folder; none, if so asked, where the user may not look (such as lost+found)."""
    try:
        with os.scandir(folder) as entries:  # unlike Path.iterdir, asks nothing about each of a million crops
            return sorted(Path(entry) for entry in entries if entry.is_dir())
    except OSError as error:
        if listable_only:
            return []
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None


def find_annotations(root: Path, annotations: str | Path | None) -> dict[str, Path]:
    """The splits' AU annotations: a folder of one file for each video, or one file that lists all pictures.

    Args:
        root: Folder of the data set.
        annotations: Folder that holds both splits, absolute or within ``root``; searched for if None,
            up to three levels deep.

    Returns:
        Folder or file of "train" and of "val".

    Raises:
        DataError: There are none, or several to choose from.
    """
    start, depth = (root, _DEPTH) if annotations is None else (root / annotations, 1)
    if not start.is_dir():
        raise DataError(f"data.read.annotations={annotations}: {start} is not a folder")
    found = []
    for folder in _folders(start, depth):
        splits = _split_folders(folder, listable_only=folder != start) or _split_lists(folder)
        if splits:
            found.append(splits)
    if not found:
        raise DataError(
            f"{start} holds no AU annotations: expected a folder such as 'Third ABAW Annotations/"
            f"AU_Detection_Challenge' with Train_Set and Validation_Set, in them <video>.txt files that "
            f"begin with AU1,AU2,..., or train_set.txt and validation_set.txt that begin with "
            f"image_location,AU1,AU2,... (name the folder by data.read.annotations=FOLDER)"
        )
    if len(found) > 1:
        parents = [splits["train"].parent for splits in found]
        options = ", ".join(f"'{p.relative_to(root) if p.is_relative_to(root) else p}'" for p in parents)
        raise DataError(
            f"{root} holds several sets of AU annotations: choose one by data.read.annotations: {options}"
        )
    return found[0]


def _split_folders(folder: Path, listable_only: bool) -> dict[str, Path]:
    """The splits' folders of annotation files in a folder, if both are there."""
    children = {_normal(child.name): child for child in _subfolders(folder, listable_only)}
    splits = {
        split: next((children[name] for name in spellings if name in children), None)
        for split, spellings in SPLIT_FOLDERS.items()
    }
    found = {split: child for split, child in splits.items() if child is not None and _holds_aus(child)}
    return found if len(found) == len(SPLIT_FOLDERS) else {}


def _split_lists(folder: Path) -> dict[str, Path]:
    """The splits' one-file lists in a folder, if both are there.

    Raises:
        DataError: Several files have the name of one split.
    """
    found: dict[str, Path] = {}
    for file in sorted((*annotation_files(folder), *annotation_files(folder, "*.csv"))):
        stem = _normal(file.stem)
        split = next((split for split, name in LIST_NAMES.items() if name.search(stem)), None)
        if split is None or not _lists_aus(file):
            continue
        if split in found:
            raise DataError(
                f"{folder} holds two lists of the {split} split, {found[split].name} and {file.name}"
            )
        found[split] = file
    return found if len(found) == len(LIST_NAMES) else {}


def find_list(root: Path, name: re.Pattern[str], option: str) -> Path:
    """A text file that lies anywhere in the folders of a data set, found by its name.

    Args:
        root: Folder of the data set.
        name: Matches the file's name without its suffix, in lower case, blanks and hyphens as underscores.
        option: Of the command line, that names the file; for messages.

    Raises:
        DataError: There is none, or several to choose from.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    found = [
        file
        for folder in _folders(root, _DEPTH)
        for file in annotation_files(folder)
        if name.search(_normal(file.stem))
    ]
    if len(found) != 1:
        has = ", ".join(map(str, found)) or "none"
        raise DataError(
            f"{root}: expected one list *{name.pattern}*.txt, there is {has}: give it by {option} FILE"
        )
    return found[0]


def _first_line(file: Path) -> str:
    """Header of a text file; "" if it cannot be read."""
    with contextlib.suppress(OSError), file.open(encoding="utf-8-sig", errors="replace") as lines:
        return lines.readline(4096).strip()
    return ""


def _lists_aus(file: Path) -> bool:
    """Whether a file's header names pictures and AUs."""
    names = [name.strip().lower() for name in _first_line(file).split(",")]
    return names[0] in LIST_COLUMNS[:2] and any(map(AU_NAME.fullmatch, names))


def annotation_files(folder: Path, pattern: str = "*.txt") -> list[Path]:
    """A folder's annotation files, sorted; hidden ones (macOS leaves ``._<video>.txt``) are none."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith(".") and file.is_file())


def _holds_aus(folder: Path) -> bool:
    """Whether an annotation file has a header of AUs (not of expressions or valence)."""
    return any(AU_NAME.match(_first_line(file)) for file in annotation_files(folder))


def find_crops(root: Path, crops: str | Path | None, videos: Iterable[str]) -> dict[str, Path]:
    """The folder of each video's crops, for the videos that have one.

    Copies of Aff-Wild2 keep crops in one folder or in several, as they were handed out in several archives.

    Args:
        root: Folder of the data set.
        crops: The crop folder, absolute or within ``root``; if None, every folder whose name begins with one
            of CROP_FOLDERS is looked into, in that order.
        videos: Names of the annotated videos.

    Raises:
        DataError: There is no crop folder, or none of the videos lies in one.
    """
    if crops is None:
        places = sorted(filter(_is_crop_folder, _folders(root, _DEPTH)), key=_crop_rank)
    elif (root / crops).is_dir():
        places = [root / crops]
    else:
        raise DataError(f"data.read.crops={crops}: {root / crops} is not a folder")
    found: dict[str, Path] = {}
    for place in places:
        present = {folder.name: folder for folder in _subfolders(place)}
        found |= {video: present[video] for video in videos if video in present and video not in found}
    if not found:
        looked = f"; {places[0]} has none" if places else ""
        raise DataError(
            f"{root} holds no crops of the annotated videos: expected cropped_aligned/<video>/00001.jpg (or "
            f"a folder named images or faces){looked} (name the folder by data.read.crops=FOLDER)"
        )
    return found


def _is_crop_folder(folder: Path) -> bool:
    return _normal(folder.name).startswith(CROP_FOLDERS)


def _crop_rank(folder: Path) -> int:
    """Place of a crop folder's name in CROP_FOLDERS."""
    return [_normal(folder.name).startswith(known) for known in CROP_FOLDERS].index(True)
