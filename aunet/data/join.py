"""Joins the labels of a split's videos and the crops on disk."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.data.annotations import VideoLabels
from aunet.data.faults import Faults
from aunet.data.frames import FrameTable
from aunet.data.sources import CropFiles, Crops, list_crops

_NO_CROPS = np.empty(0, np.int64)


def join_crops(
    videos: Sequence[VideoLabels],
    video_folders: Mapping[str, Path],
    aus: tuple[int, ...],
    drop_row_if_any: bool,
    group_of: Callable[[str], str],
    faults: Faults,
    offset: int = 0,
) -> FrameTable:
    """Joins the labels of one split's videos and their crops by number; records what has no partner.

    Args:
        videos: Labels of each video, sorted by name.
        video_folders: Folder of each video's crops.
        aus: AU of each label column.
        drop_row_if_any: Leave out rows in which any label is -1, not only those in which all are.
        group_of: The group of a video: its base video or its subject.
        faults: Receives what is left out.
        offset: Number of a picture less that of its row.
    """
    left_out = dict.fromkeys(
        ("rows with -1 throughout", "rows with -1 in part", "labels without crop", "crops without label"), 0
    )
    masked = faulty = 0
    names: list[str] = []
    crops: list[Crops] = []
    columns: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]] = []
    for video in videos:
        folder = video_folders.get(video.video)
        named, numbers = list_crops(folder, faults) if folder else (None, _NO_CROPS)
        frames = video.frames + offset
        spare = numbers[~np.isin(numbers, frames)]
        if folder and len(spare):
            first = f"{len(spare)}, the first {named.file(int(spare[0]))}" if named else ""
            faults.add("crop-without-label", folder, first, count=len(spare))
        if folder and len(numbers) and (missing := int(numbers[-1] - numbers[0]) + 1 - len(numbers)):
            before = int(numbers[np.flatnonzero(np.diff(numbers) > 1)[0]])
            faults.add("gap", folder, f"{missing} numbers are missing, the first after {before}")
        unknown = video.labels == -1
        whole, part = unknown.all(1), unknown.any(1) & ~unknown.all(1)
        keep = ~whole & ~part if drop_row_if_any else ~whole
        without = keep & ~np.isin(frames, numbers)
        faults.add_lines("unknown-row", video.file, video.lines[whole])
        faults.add_lines("partly-unknown-row", video.file, video.lines[part])
        why = "" if folder else f"there are no crops of {video.video}"
        faults.add_lines("label-without-crop", video.file, video.lines[without], why)
        left_out["crops without label"] += len(spare)
        left_out["rows with -1 throughout"] += int(whole.sum())
        left_out["rows with -1 in part"] += int(part.sum()) if drop_row_if_any else 0
        left_out["labels without crop"] += int(without.sum())
        faulty += video.faulty
        rows = np.flatnonzero(keep & ~without)
        if named and len(rows):
            names.append(video.video)
            crops.append(named)
            masked += int(unknown[rows].sum())
            columns.append((frames[rows], video.labels[rows]))
    if not drop_row_if_any:
        left_out["single labels of -1 (masked) in rows kept"] = masked
    if faulty:
        left_out["rows at fault (skipped)"] = faulty
    video_index = np.repeat(np.arange(len(names), dtype=np.int32), [len(frame) for frame, _ in columns])
    frame_index = np.concatenate([frame for frame, _ in columns] or [_NO_CROPS]).astype(np.int32)
    return FrameTable(
        aus=aus,
        videos=tuple(names),
        groups=tuple(group_of(name) for name in names),
        video=video_index,
        frame=frame_index,
        labels=np.concatenate([label for _, label in columns] or [np.empty((0, len(aus)), np.int8)]),
        source=CropFiles(crops, video_index, frame_index),
        dropped=left_out,
        files=tuple(video.file for video in videos),
    )
