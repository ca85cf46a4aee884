"""Reads BP4D (Zhang et al., 2014) into FrameTables, in the published three folds.

    <root>/AUCoding/AU_OCC/F001_T1.csv    header ``0,1,2,...``: frame, then AU numbers; 0, 1, 9 = unknown
    <root>/<any folder>/F001/T1/2440.jpg  pictures by number, of any number of digits

41 subjects do 8 tasks each. A video is one task, such as "F001/T1"; its group is the subject.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aunet.data.annotations import VideoLabels, check_range, integer_table, read_lines
from aunet.data.faults import Faults
from aunet.data.folds import BP4D_PARTS, fold_splits
from aunet.data.frames import FrameTable
from aunet.data.subjects import (
    distinct,
    find_folder,
    find_pictures,
    join_fold,
    known_subjects,
    require_frames,
    subject_of,
)
from aunet.facs import BP4D, au_column

_TASKS = tuple(f"T{number}" for number in range(1, 9))
_NAME = re.compile(r"([FM]\d{3})_(T[1-8])")
_NUMBER = re.compile(r"0*(\d{1,3})")
_UNKNOWN = 9


def read_bp4d(
    root: str | Path,
    aus: Sequence[int] = BP4D,
    crops: str | Path | None = None,
    annotations: str | Path | None = None,
    frame_offset: int = 0,
    fold: int = 1,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    drop_row_if_any: bool = False,
    faults: Faults | None = None,
) -> dict[str, FrameTable]:
    """Reads one fold of BP4D.

    Args:
        root: Folder that holds annotations and pictures.
        aus: AUs to read; columns are matched by the numbers in each file's header.
        crops: Folder of the subjects' folders of pictures, absolute or within ``root``; found if None.
        annotations: Folder of the CSV files of AU occurrence, likewise.
        frame_offset: Number of a picture less the frame of its label.
        fold: 1 to 3, see ``aunet.data.folds``.
        val_fraction: Share of the training subjects that choose the best epoch, in (0, 1).
        split_seed: Of that choice.
        drop_row_if_any: Drop a row when any of its labels is unknown, not only when all are.
        faults: Receives what is wrong with files and rows, which are then left out; if None, the first error
            is raised.

    Returns:
        FrameTable of "train", "val" and "test", grouped by subject; labels coded 9 become -1.

    Raises:
        DataError: A setting is out of range, the layout is unknown or ambiguous, or a split has no usable
            frame; without ``faults`` also if something is wrong with a file, which is named with its line.
    """
    root, columns = Path(root), tuple(aus)
    split_of = fold_splits(BP4D_PARTS, fold, val_fraction, split_seed)
    found = Faults() if faults is None else faults
    place = find_folder(
        root,
        annotations,
        "data.read.annotations",
        lambda folder: any(_NAME.fullmatch(file.stem) for file in folder.glob("*.csv")),
        "annotations such as AUCoding/AU_OCC/F001_T1.csv",
        ["AUCoding/AU_OCC", "AU_OCC"],
    )
    files: dict[str, Path] = {}
    for file in sorted(place.glob("*.csv")):
        if match := _NAME.fullmatch(file.stem):
            files[f"{match[1]}/{match[2]}"] = file
        elif not file.name.startswith("."):
            found.add("bad-name", file, "is not named by subject and task, as in F001_T1.csv")
    people = {subject_of(video): files[video] for video in sorted(files, reverse=True)}
    subjects = set(known_subjects(people, split_of, place, found))
    files = {video: file for video, file in files.items() if subject_of(video) in subjects}
    for video in (f"{subject}/{task}" for subject in sorted(subjects) for task in _TASKS):
        if video not in files:
            found.add("absent-subject", place, f"{video}, of the {split_of[subject_of(video)]} split")
    read = [read_task(file, video, columns, found) for video, file in files.items()]
    if faults is None:
        found.refuse()
    known = [f"{subject}/{task}" for subject in split_of for task in _TASKS]
    folders = find_pictures(root, crops, list(files), known, "F001/T1/2440.jpg")
    tables = join_fold(
        [video for video in read if video is not None],
        {video: [file] for video, file in files.items()},
        folders,
        split_of,
        columns,
        frame_offset,
        drop_row_if_any,
        found,
    )
    if faults is None:
        found.refuse()
    require_frames(tables, root, found)
    return tables


def read_task(file: Path, video: str, aus: Sequence[int], faults: Faults) -> VideoLabels | None:
    """One task's labels.

    Args:
        file: CSV file; its header names the AU of each column but the first, which holds frame numbers.
        video: Name of the video.
        aus: AUs wanted, in the order wanted.
        faults: Receives what is wrong.

    Returns:
        Its well-formed rows; None if the file cannot be used at all.
    """
    lines = read_lines(file, faults)
    if lines is None:
        return None
    names = [name.strip() for name in lines[0].split(",")]
    order = _columns(file, names, aus, faults)
    if order is None:
        return None
    if len(lines) == 1:
        faults.add("no-rows", file)
    values, good = integer_table(file, lines[1:], len(names), 2, faults)
    numbers = np.arange(2, len(lines) + 1)
    for row in np.flatnonzero(good & (values[:, 0] < 0)):
        faults.add("out-of-range", file, f"frame {values[row, 0]} is not 0 or more", int(numbers[row]))
    rows = np.flatnonzero(good & (values[:, 0] >= 0))
    rows = rows[distinct(file, values[rows, 0], numbers[rows], faults)]
    rows = rows[check_range(file, values[rows][:, order], (0, 1, _UNKNOWN), numbers[rows], faults)]
    labels = values[rows][:, order].astype(np.int8)
    labels[labels == _UNKNOWN] = -1
    return VideoLabels(video, file, numbers[rows], values[rows, 0], labels, len(lines) - 1 - len(rows))


def _columns(file: Path, names: Sequence[str], aus: Sequence[int], faults: Faults) -> list[int] | None:
    """Index of each wanted AU's column in a header; None, recorded, if there is something wrong with it."""
    columns: dict[int, int] = {}
    for index, name in enumerate(names[1:], start=1):
        match = _NUMBER.fullmatch(name)
        if not match:
            faults.add(
                "bad-header", file, f"expected a header such as 0,1,2,...; found {name[:40]!r}", line=1
            )
            return None
        if int(match[1]) in columns:
            faults.add("duplicate-column", file, f"column {name} occurs twice", line=1)
            return None
        columns[int(match[1])] = index
    missing = [au_column(au) for au in aus if au not in columns]
    if missing:
        has = ", ".join(map(au_column, columns)) or "no AU"
        faults.add("missing-column", file, f"no column for {', '.join(missing)}; it has {has}", line=1)
        return None
    return [columns[au] for au in aus]
