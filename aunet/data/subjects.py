"""What the readers of DISFA and BP4D share: finding folders by content, picture numbers, tables of a fold."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.data.annotations import VideoLabels
from aunet.data.faults import DataError, Faults
from aunet.data.frames import FrameTable
from aunet.data.join import join_crops
from aunet.data.sources import list_crops

_PICTURE = re.compile(r"\d{1,9}\.(?:jpe?g|png|bmp)", re.IGNORECASE)
_DEPTH = 3


def subfolders(folder: Path) -> list[Path]:
    """Sorted folders in a folder, hidden ones left out; none where the user may not look."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(e) for e in entries if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return []


def holds_pictures(folder: Path) -> bool:
    """Whether a folder holds a picture that is named by a number."""
    try:
        with os.scandir(folder) as entries:
            return any(_PICTURE.fullmatch(entry.name) for entry in entries)
    except OSError:
        return False


def find_folder(
    root: Path,
    chosen: str | Path | None,
    option: str,
    fits: Callable[[Path], bool],
    expected: str,
    usual: Sequence[str] = (),
) -> Path:
    """The one folder in a data set, up to three levels deep, that holds what is looked for.

    Args:
        root: Folder of the data set.
        chosen: The folder, absolute or within ``root``, if the user names it.
        option: The setting by which it is named.
        fits: Whether a folder is it, by its contents.
        expected: What such a folder holds, for messages.
        usual: Where it lies in the data set as handed out, which is looked at first.

    Raises:
        DataError: There is none, or several to choose from.
    """
    if not root.is_dir():
        raise DataError(f"data.root={root} is not a folder: give the one that holds the data set")
    if chosen is not None:
        if not (root / chosen).is_dir():
            raise DataError(f"{option}={chosen}: {root / chosen} is not a folder")
        if not fits(root / chosen):
            raise DataError(f"{option}={chosen}: {root / chosen} does not hold {expected}")
        return root / chosen
    found = [root / name for name in usual if fits(root / name)][:1] or list(_matching([root], fits, _DEPTH))
    if not found:
        raise DataError(f"{root} does not hold {expected} (name the folder by {option}=FOLDER)")
    if len(found) > 1:
        options = ", ".join(f"'{folder.relative_to(root)}'" for folder in found)
        raise DataError(f"{root} holds {expected} in several folders: choose one by {option}: {options}")
    return found[0]


def _matching(level: Sequence[Path], fits: Callable[[Path], bool], depth: int) -> Iterator[Path]:
    """Folders that fit, those of the upper levels first; none within another."""
    others = []
    for folder in level:
        if fits(folder):
            yield folder
        elif not holds_pictures(folder):  # thousands of them, and no folder
            others.append(folder)
    if depth and others:
        yield from _matching([child for folder in others for child in subfolders(folder)], fits, depth - 1)


def find_pictures(
    root: Path, crops: str | Path | None, videos: Sequence[str], known: Sequence[str], expected: str
) -> dict[str, Path]:
    """The folder of each video's pictures, for the videos that have one.

    Args:
        root: Folder of the data set.
        crops: Folder of pictures, absolute or within ``root``; if None, found by its contents.
        videos: Names of the annotated videos, as paths within that folder.
        known: Names of all videos that the data set may hold.
        expected: How a picture is named, for messages.

    Raises:
        DataError: There is no such folder, or several to choose from.
    """
    names = dict.fromkeys([*videos, *known])
    people = {subject_of(name) for name in names}

    def fits(folder: Path) -> bool:
        present = {child.name for child in subfolders(folder)} & people
        return any(holds_pictures(folder / name) for name in names if subject_of(name) in present)

    place = find_folder(root, crops, "data.read.crops", fits, f"pictures such as {expected}")
    return {video: place / video for video in videos if (place / video).is_dir()}


def distinct(
    file: Path, frames: npt.NDArray[np.int64], lines: npt.NDArray[np.int64], faults: Faults
) -> npt.NDArray[np.int64]:
    """Rows of distinct frames, sorted by frame; where one is listed again, the first row counts.

    Args:
        file: For messages.
        frames: (N,) frame of each row.
        lines: (N,) line of each row.
        faults: Receives what is listed again.
    """
    _, first, inverse = np.unique(frames, return_index=True, return_inverse=True)
    of = first[inverse]
    for row in np.flatnonzero(of != np.arange(len(frames))):
        before = lines[of[row]]
        faults.add(
            "duplicate-row", file, f"frame {frames[row]} is listed in line {before} already", int(lines[row])
        )
    return np.asarray(first)


def _check_offset(video: VideoLabels, folder: Path, offset: int, faults: Faults) -> bool:
    """Whether pictures are numbered as configured, as far as their numbers tell; records it if not.

    Another offset is believed if more rows find a picture with it, and no picture is left without a row: else
    a video of which more is filmed than labelled would seem shifted when its first picture is missing.
    """
    _, numbers = list_crops(folder, Faults())  # what is wrong with names is recorded by join_crops

    def partners(shift: int) -> int:
        return int(np.isin(video.frames + shift, numbers).sum())

    best = max(sorted((-1, 0, 1), key=abs), key=partners)
    if partners(best) <= partners(offset) or partners(best) < len(numbers):
        return True
    faults.add(
        "frame-offset",
        folder,
        f"{video.video} has pictures {numbers[0]} to {numbers[-1]}, labels of frames {video.frames[0]} to "
        f"{video.frames[-1]}; of {len(video.frames)} labels {partners(offset)} find a picture with "
        f"data.read.frame_offset={offset}, {partners(best)} with data.read.frame_offset={best}",
    )
    return False


def join_fold(
    videos: Sequence[VideoLabels],
    files: Mapping[str, Sequence[Path]],
    folders: Mapping[str, Path],
    split_of: Mapping[str, str],
    aus: tuple[int, ...],
    frame_offset: int,
    drop_row_if_any: bool,
    faults: Faults,
) -> dict[str, FrameTable]:
    """Tables of a fold's splits; counts of rows and pictures that do not match are recorded for each video.

    Args:
        videos: Labels of each video that could be read.
        files: Annotation files of every video, of those too that could not be read.
        folders: Folder of each video's pictures.
        split_of: Split of each subject; a video's name begins with its subject.
        aus: AU of each label column.
        frame_offset: Number of a picture less that of its row.
        drop_row_if_any: Leave out rows in which any label is -1, not only those in which all are.
        faults: Receives what is left out.

    Returns:
        FrameTable of "train", "val" and "test".
    """
    usable = [
        video
        for video in sorted(videos, key=lambda video: video.video)
        if video.video not in folders or _check_offset(video, folders[video.video], frame_offset, faults)
    ]
    tables = {}
    for split in ("train", "val", "test"):
        names = {name for name in files if split_of[subject_of(name)] == split}
        chosen = [video for video in usable if video.video in names]
        table = join_crops(chosen, folders, aus, drop_row_if_any, subject_of, faults, frame_offset)
        dropped = dict(table.dropped)
        if len(chosen) < len(names):
            dropped["videos at fault (skipped)"] = len(names) - len(chosen)
        read = tuple(file for video in chosen for file in files[video.video])
        tables[split] = replace(table, grouped_by="subject", dropped=dropped, files=read)
    return tables


def subject_of(video: str) -> str:
    """Subject of a video: ``subject_of("F001/T1") == "F001"``."""
    return video.split("/")[0]


def known_subjects(
    found: Mapping[str, Path], split_of: Mapping[str, str], place: Path, faults: Faults
) -> list[str]:
    """Those of the subjects found, with a file or folder of each, that a fold knows, sorted.

    Others are recorded, and so are the subjects of the fold that are absent.
    """
    for subject in sorted(found.keys() - split_of.keys()):
        faults.add("unknown-subject", found[subject], f"{subject} is in no part of the published split")
    for subject in sorted(split_of.keys() - found.keys()):
        faults.add("absent-subject", place, f"{subject}, of the {split_of[subject]} split")
    return sorted(found.keys() & split_of.keys())


def require_frames(tables: Mapping[str, FrameTable], root: Path, faults: Faults) -> None:
    """Raises DataError if a split has no usable frame: the first error, which says why, if there is one."""
    for split, table in tables.items():
        if not len(table):
            faults.refuse()
            left_out = ", ".join(f"{n} {why}" for why, n in table.dropped.items() if n)
            raise DataError(
                f"the {split} split of {root} has no usable frame ({left_out or 'nothing was found'})"
            )
