"""Reads Aff-Wild2's ABAW layout into FrameTables.

    <root>/cropped_aligned/<video>[_left|_right]/00001.jpg
    <root>/Third ABAW Annotations/AU_Detection_Challenge/{Train_Set,Validation_Set}/<video>[_left|_right].txt

An annotation file has a header of AU names, then one line per video frame; line k after the header belongs to
crop ``{k:05d}.jpg``. Later editions also hand out a split in one file, ``image_location,AU1,...``. Other
spellings in use are found too: see aunet.data.layout; annotations may have any name and lie up to three
levels deep, since they are recognised by their contents.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aunet.data.annotations import read_image_list, read_video_labels
from aunet.data.faults import DataError, Faults
from aunet.data.frames import FrameTable, without_shared_groups
from aunet.data.join import join_crops
from aunet.data.layout import annotation_files, find_annotations, find_crops
from aunet.data.sources import CropFiles, list_crops
from aunet.facs import AFFWILD2

SUFFIX = re.compile(r"_(left|right|main)$")
"""Marks one of several people in a video; the base video is the name without it."""


def read_affwild2(
    root: str | Path,
    aus: Sequence[int] = AFFWILD2,
    crops: str | Path | None = None,
    annotations: str | Path | None = None,
    drop_row_if_any: bool = True,
    allow_shared_groups: bool = False,
    faults: Faults | None = None,
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
        faults: Receives what is wrong with files and rows, which are then left out; if None, the first error
            is raised.

    Returns:
        FrameTable of "train" and of "val".

    Raises:
        DataError: The layout is unknown or ambiguous, or a split has no usable frame; without ``faults`` also
            if a file is malformed (named with its line) or two splits share a video.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data.root={root} is not a folder: give the one that holds crops and annotations")
    found = Faults() if faults is None else faults
    labels = {}
    unusable = {}
    for split, place in find_annotations(root, annotations).items():
        if place.is_dir():
            read = [read_video_labels(file, file.stem, tuple(aus), found) for file in annotation_files(place)]
        else:
            read = [*read_image_list(place, tuple(aus), found)]
        labels[split] = [video for video in read if video is not None]
        unusable[split] = len(read) - len(labels[split])
    if faults is None or not any(labels.values()):
        found.refuse()  # what is wrong with the files says more than that nothing is left
    names = {video.video for split in labels.values() for video in split}
    video_folders = find_crops(root, crops, names)
    tables = {}
    for split, videos in labels.items():
        table = join_crops(videos, video_folders, tuple(aus), drop_row_if_any, base_video, found)
        if unusable[split]:
            left_out = {**table.dropped, "annotation files at fault (skipped)": unusable[split]}
            table = replace(table, dropped=left_out)
        tables[split] = table
        if not len(table):
            found.refuse()
            left_out = {why: n for why, n in table.dropped.items() if n}
            raise DataError(
                f"the {split} split of {root} has no usable frame with a crop named 00001.jpg, "
                f"00002.jpg, ... ({', '.join(f'{n} {why}' for why, n in left_out.items())})"
            )
    if not allow_shared_groups:
        where = {
            (split, video.video): (
                video.file,
                None if video.file.stem == video.video else int(video.lines[0]),
            )
            for split, videos in labels.items()
            for video in videos
            if len(video.lines)
        }
        tables = without_shared_groups(tables, found, where)
    if faults is None:
        found.refuse()
    return tables


def read_crops(
    root: str | Path,
    videos: Collection[str],
    aus: Sequence[int] = AFFWILD2,
    crops: str | Path | None = None,
    faults: Faults | None = None,
) -> FrameTable:
    """All crops of some videos, annotated or not, such as those of the test split.

    Args:
        root: Folder that holds the crops.
        videos: Names of crop folders; those without a crop are not in the table.
        aus: AUs of the label columns, which say -1 throughout.
        crops: See ``read_affwild2``.
        faults: Receives what is wrong with names of crops, which are then left out.

    Returns:
        FrameTable, by video, then by frame.

    Raises:
        DataError: None of the videos has a crop.
    """
    found = Faults() if faults is None else faults
    folders = find_crops(Path(root), crops, videos)
    listed = {video: list_crops(folders[video], found) for video in sorted(folders)}
    listed = {video: (named, numbers) for video, (named, numbers) in listed.items() if len(numbers)}
    if not listed:
        raise DataError(f"{root}: the crop folders of the videos are empty, {min(folders.values())} for one")
    counts = [len(numbers) for _, numbers in listed.values()]
    video = np.repeat(np.arange(len(listed), dtype=np.int32), counts)
    frame = np.concatenate([numbers for _, numbers in listed.values()]).astype(np.int32)
    return FrameTable(
        aus=tuple(aus),
        videos=tuple(listed),
        groups=tuple(map(base_video, listed)),
        video=video,
        frame=frame,
        labels=np.full((len(frame), len(aus)), -1, np.int8),
        source=CropFiles([named for named, _ in listed.values()], video, frame),
    )


def base_video(name: str) -> str:
    """Video of which a crop folder or annotation shows one person: ``base_video("v1_left") == "v1"``."""
    return SUFFIX.sub("", name)
