"""Reads DISFA (Mavadati et al., 2013) into FrameTables, in the published three folds.

    <root>/ActionUnit_Labels/SN001/SN001_au1.txt     lines of ``frame,intensity``, 1-based, 0 to 5
    <root>/<any folder>/SN001/00001.png              pictures by number, one folder for each subject

Tools disagree about the pictures' numbers: ME-GraphAU writes label frame 1 to ``0.png``, JAA-Net to number 1.
``frame_offset`` says which it is, and each subject's numbers are checked against it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.data.annotations import VideoLabels, check_range, integer_table, read_lines
from aunet.data.faults import DataError, Faults
from aunet.data.folds import DISFA_PARTS, fold_splits
from aunet.data.frames import FrameTable
from aunet.data.subjects import (
    distinct,
    find_folder,
    find_pictures,
    join_fold,
    known_subjects,
    require_frames,
    subfolders,
)
from aunet.facs import DISFA

_SUBJECT = re.compile(r"SN\d{3}")
_INTENSITIES = range(6)


@dataclass(frozen=True)
class _Column:
    """The well-formed rows of one AU's file, by frame."""

    frames: npt.NDArray[np.int64]
    intensities: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int64]
    listed: npt.NDArray[np.int64]
    """Frames of all rows, those with an intensity out of range included."""
    malformed: int
    """Rows that cannot be read at all."""


def read_disfa(
    root: str | Path,
    aus: Sequence[int] = DISFA,
    crops: str | Path | None = None,
    annotations: str | Path | None = None,
    threshold: int = 2,
    frame_offset: int = 0,
    fold: int = 1,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    faults: Faults | None = None,
) -> dict[str, FrameTable]:
    """Reads one fold of DISFA.

    Args:
        root: Folder that holds annotations and pictures.
        aus: AUs to read; of 12 coded ones 8 are commonly used.
        crops: Folder of the subjects' folders of pictures, absolute or within ``root``; found if None.
        annotations: Folder of the subjects' folders of annotations, likewise.
        threshold: Intensity from which an AU counts as present, 1 to 5; 2 in JAA-Net and ME-GraphAU.
        frame_offset: Number of a picture less the frame of its label: 0, or -1 where pictures begin at 0.
        fold: 1 to 3, see ``aunet.data.folds``.
        val_fraction: Share of the training subjects that choose the best epoch, in (0, 1).
        split_seed: Of that choice.
        faults: Receives what is wrong with files and rows, which are then left out; if None, the first error
            is raised.

    Returns:
        FrameTable of "train", "val" and "test", grouped by subject; labels are never -1.

    Raises:
        DataError: A setting is out of range, the layout is unknown or ambiguous, or a split has no usable
            frame; without ``faults`` also if something is wrong with a file, which is named with its line.
    """
    if threshold not in _INTENSITIES[1:]:
        raise DataError(f"data.read.threshold={threshold} must be 1 to 5")
    root, columns = Path(root), tuple(aus)
    split_of = fold_splits(DISFA_PARTS, fold, val_fraction, split_seed)
    found = Faults() if faults is None else faults
    place = find_folder(
        root,
        annotations,
        "data.read.annotations",
        _is_annotated,
        "annotations such as SN001/SN001_au1.txt",
        ["ActionUnit_Labels"],
    )
    people = {folder.name: folder for folder in subfolders(place) if _holds_annotations(folder)}
    subjects = known_subjects(people, split_of, place, found)
    files = {name: [people[name] / f"{name}_au{au}.txt" for au in columns] for name in subjects}
    read = [read_subject(name, files[name], threshold, found) for name in subjects]
    if faults is None:
        found.refuse()
    folders = find_pictures(root, crops, subjects, list(split_of), "img/SN001/00001.png")
    videos = [video for video in read if video is not None]
    tables = join_fold(videos, files, folders, split_of, columns, frame_offset, False, found)
    if faults is None:
        found.refuse()
    require_frames(tables, root, found)
    return tables


def _is_annotated(folder: Path) -> bool:
    """Whether a folder holds subjects' folders of annotations."""
    return any(
        _SUBJECT.fullmatch(child.name) and any(child.glob("*_au*.txt")) for child in subfolders(folder)
    )


def _holds_annotations(folder: Path) -> bool:
    """Whether a folder is a subject's, if only by its name."""
    return bool(_SUBJECT.fullmatch(folder.name)) or any(folder.glob(f"{folder.name}_au*.txt"))


def read_subject(subject: str, files: Sequence[Path], threshold: int, faults: Faults) -> VideoLabels | None:
    """One subject's labels from the files of its AUs.

    Args:
        subject: Its name.
        files: One file for each AU wanted, in that order.
        threshold: Intensity from which an AU is present.
        faults: Receives what is wrong.

    Returns:
        The frames for which all files have a well-formed row; None if a file is missing or cannot be used.
    """
    columns: dict[Path, _Column | None] = dict.fromkeys(files)
    for file in files:
        if not file.is_file():
            faults.add("missing-annotation", file, f"is missing: {subject} is left out")
        elif (lines := read_lines(file, faults)) is not None:
            columns[file] = _read_column(file, lines, faults)
    read = {file: column for file, column in columns.items() if column is not None}
    _check_equal(subject, read, faults)
    if len(read) < len(columns) or not read:
        return None
    usable = list(read.values())
    frames = usable[0].frames
    for column in usable[1:]:
        frames = np.intersect1d(frames, column.frames, assume_unique=True)
    rows = [np.searchsorted(column.frames, frames) for column in usable]
    intensities = np.stack([column.intensities[row] for column, row in zip(usable, rows, strict=True)], 1)
    return VideoLabels(
        subject,
        files[0],
        usable[0].lines[rows[0]],
        frames,
        (intensities >= threshold).astype(np.int8),
        len(np.unique(np.concatenate([column.listed for column in usable]))) - len(frames),
    )


def _read_column(file: Path, lines: Sequence[str], faults: Faults) -> _Column:
    """The well-formed rows of one AU's file; records the others."""
    if list(lines) == [""]:
        faults.add("no-rows", file)
        lines = []
    values, good = integer_table(file, lines, 2, 1, faults, "frame,intensity are")
    numbers = np.arange(1, len(lines) + 1)
    for row in np.flatnonzero(good & (values[:, 0] < 1)):
        faults.add("out-of-range", file, f"frame {values[row, 0]} is not 1 or more", int(numbers[row]))
    rows = np.flatnonzero(good & (values[:, 0] >= 1))
    rows = rows[distinct(file, values[rows, 0], numbers[rows], faults)]
    listed = values[rows, 0]
    rows = rows[check_range(file, values[rows, 1:], _INTENSITIES, numbers[rows], faults)]
    return _Column(values[rows, 0], values[rows, 1], numbers[rows], listed, int((~good).sum()))


def _check_equal(subject: str, columns: Mapping[Path, _Column], faults: Faults) -> None:
    """Records the files that list other frames than most files of a subject do."""
    if len(columns) < 2:
        return
    listed = [column.listed for column in columns.values()]
    frames, counts = np.unique(np.concatenate(listed), return_counts=True)
    usual = frames[2 * counts >= len(columns)]
    for file, column in columns.items():
        lacking = np.setdiff1d(usual, column.listed, assume_unique=True)
        spare = np.setdiff1d(column.listed, usual, assume_unique=True)
        # As many rows as are malformed, and recorded as such, may be those that it seems to lack.
        for words, others in (("lacks", lacking[column.malformed :]), ("alone lists", spare)):
            if len(others):
                more = f" and {len(others) - 1} more" if len(others) > 1 else ""
                faults.add(
                    "unequal-files", file, f"{words} frame {others[0]}{more}, unlike most of {subject}"
                )
