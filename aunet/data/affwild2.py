"""Reads Aff-Wild2's ABAW layout into FrameTables.

    <root>/cropped_aligned/<video>[_left|_right]/00001.jpg
    <root>/Third ABAW Annotations/AU_Detection_Challenge/{Train_Set,Validation_Set}/<video>[_left|_right].txt

An annotation file has a header of AU names, then one line per video frame; line k after the header belongs to
crop ``{k:05d}.jpg``. Other spellings in use are found too: see aunet.data.layout; annotation
folders may have any name and lie up to three levels deep, since they are recognised by their contents.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.data.frames import DataError, FrameTable, check_disjoint
from aunet.data.layout import HEADER, annotation_files, find_crops, find_split_folders
from aunet.facs import AFFWILD2, au_column

SUFFIX = re.compile(r"_(left|right|main)$")
"""Marks one of several people in a video; the base video is the name without it."""

_CROP = re.compile(r"(\d{5}|[1-9]\d{5,8})\.jpg")  # as FrameTable.path spells it
_NO_CROPS = np.empty(0, np.int32)


def read_affwild2(
    root: str | Path,
    aus: Sequence[int] = AFFWILD2,
    crops: str | Path | None = None,
    annotations: str | Path | None = None,
    drop_row_if_any: bool = True,
    allow_shared_groups: bool = False,
) -> dict[str, FrameTable]:
    """Reads the training and the validation split.

    Args:
        root: Folder that holds crops and annotations.
        aus: AUs to read; columns are matched by the names in each file's header.
        crops: Crop folder, absolute or within ``root``; if None, folders are found by their names, and a
            video may lie in any of them.
        annotations: Folder with the splits' folders, absolute or within ``root``; found if None.
        drop_row_if_any: Drop a row when any of its labels is -1, the paper's rule (section 4.1). Otherwise
            only rows that are -1 throughout are dropped and single unknown labels are masked in loss and
            metrics.
        allow_shared_groups: Accept splits that separate the people of one video.

    Returns:
        FrameTable of "train" and of "val".

    Raises:
        DataError: The layout is unknown or ambiguous, a file is malformed (named with its line), a split has
            no usable frame, or two splits share a video.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data.root={root} is not a folder: give the one that holds crops and annotations")
    folders = find_split_folders(root, annotations)
    files = {split: annotation_files(folder) for split, folder in folders.items()}
    names = {file.stem for split in files.values() for file in split}
    video_folders = find_crops(root, crops, names)
    tables = {}
    for split, split_files in files.items():
        tables[split] = _read_split(split_files, video_folders, tuple(aus), drop_row_if_any)
        if not len(tables[split]):
            left_out = ", ".join(f"{n} {why}" for why, n in tables[split].dropped.items() if n)
            raise DataError(
                f"the {split} split in {folders[split]} has no usable frame with a crop named 00001.jpg, "
                f"00002.jpg, ... ({left_out})"
            )
    if not allow_shared_groups:
        check_disjoint(tables)
    return tables


def base_video(name: str) -> str:
    """Video of which a crop folder or annotation shows one person: ``base_video("v1_left") == "v1"``."""
    return SUFFIX.sub("", name)


def read_labels(file: Path, aus: Sequence[int]) -> npt.NDArray[np.int8]:
    """Labels of one annotation file.

    Args:
        file: Text file with a header of AU names and one comma-separated line per frame.
        aus: AUs wanted, in the order wanted.

    Returns:
        (lines, num_aus) int8 in {0, 1, -1}.

    Raises:
        DataError: Names file, line and fault.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not a text file ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    columns = _columns(file, lines[0] if lines else "")
    if missing := [au_column(au) for au in aus if au not in columns]:
        raise DataError(
            f"{file}, line 1: no column for {', '.join(missing)}; it has "
            f"{', '.join(map(au_column, columns))} (choose the AUs to read by data.aus)"
        )
    if len(lines) == 1:
        return np.empty((0, len(aus)), np.int8)
    try:
        values = np.loadtxt(lines[1:], delimiter=",", dtype=np.int64, ndmin=2, comments=None)
    except ValueError:
        values = None
    if (
        values is None
        or values.shape != (len(lines) - 1, len(columns))
        or not np.isin(values, (-1, 0, 1)).all()
    ):
        raise _fault(file, lines, len(columns))
    order = list(columns)
    return values[:, [order.index(au) for au in aus]].astype(np.int8)


def _columns(file: Path, header: str) -> dict[int, None]:
    """AU numbers of the header's columns, in file order."""
    columns: dict[int, None] = {}
    for name in header.split(","):
        match = HEADER.fullmatch(name.strip())
        if not match:
            raise DataError(f"{file}, line 1: expected a header such as AU1,AU2,...; found {name.strip()!r}")
        if int(match[1]) in columns:
            raise DataError(f"{file}, line 1: column {name.strip()} occurs twice")
        columns[int(match[1])] = None
    return columns


def _fault(file: Path, lines: list[str], width: int) -> DataError:
    """The first malformed line, in words."""
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != width:
            return DataError(f"{file}, line {number}: {len(cells)} values where the header names {width}")
        for cell in cells:
            if cell not in {"-1", "0", "1"}:
                return DataError(f"{file}, line {number}: label {cell!r} is not 0, 1 or -1")
    return DataError(f"{file}: not a table of 0, 1 and -1")


def _read_split(
    files: list[Path], video_folders: Mapping[str, Path], aus: tuple[int, ...], drop_row_if_any: bool
) -> FrameTable:
    """Joins annotation lines and crops of one split's videos."""
    left_out = dict.fromkeys(
        ("rows with -1 throughout", "rows with -1 in part", "labels without crop", "crops without label"), 0
    )
    masked = 0
    videos: list[str] = []
    columns: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]] = []
    for file in files:
        labels = read_labels(file, aus)
        crops = _crop_numbers(video_folders[file.stem]) if file.stem in video_folders else _NO_CROPS
        labelled = crops[(crops >= 1) & (crops <= len(labels))]
        left_out["crops without label"] += len(crops) - len(labelled)
        unknown = labels == -1
        whole, part = unknown.all(1), unknown.any(1) & ~unknown.all(1)
        left_out["rows with -1 throughout"] += int(whole.sum())
        keep = ~whole
        if drop_row_if_any:
            left_out["rows with -1 in part"] += int(part.sum())
            keep &= ~part
        has_crop = np.zeros(len(labels), bool)
        has_crop[labelled - 1] = True
        left_out["labels without crop"] += int((keep & ~has_crop).sum())
        rows = np.flatnonzero(keep & has_crop)
        if len(rows):
            videos.append(file.stem)
            masked += int(unknown[rows].sum())
            columns.append(((rows + 1).astype(np.int32), labels[rows]))
    if not drop_row_if_any:
        left_out["single labels of -1 (masked) in rows kept"] = masked
    return FrameTable(
        aus=aus,
        videos=tuple(videos),
        folders=tuple(video_folders[video] for video in videos),
        groups=tuple(base_video(video) for video in videos),
        video=np.repeat(np.arange(len(videos), dtype=np.int32), [len(frame) for frame, _ in columns]),
        frame=np.concatenate([frame for frame, _ in columns] or [np.empty(0, np.int32)]),
        labels=np.concatenate([label for _, label in columns] or [np.empty((0, len(aus)), np.int8)]),
        dropped=left_out,
    )


def _crop_numbers(folder: Path) -> npt.NDArray[np.int32]:
    """Sorted frame numbers of a video's crops."""
    try:
        numbers = [int(match[1]) for path in folder.iterdir() if (match := _CROP.fullmatch(path.name))]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
    return np.array(sorted(numbers), np.int32)
