"""Reads a manifest, the data set of one's own: a table that lists pictures with their labels.

    path,video,subject,split,frame,AU1,AU2,...
    anna/00001.jpg,anna_1,anna,train,1,0,1,...

Only ``path`` and the AUs are required, in any order and case; CSV must be UTF-8, with commas. Other columns,
such as age, are passed over, unless their name resembles one of these so much that a slip is likelier:
``AU-1``, ``AU1x``, ``splits``.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.data.faults import DataError, Faults
from aunet.data.folds import inner_split
from aunet.data.frames import FrameTable, without_shared_groups
from aunet.data.manifest_rows import SPLITS, Rows, read_rows
from aunet.data.sources import ListedFiles

_NAMES = ("manifest.csv", "manifest.parquet", "manifest.pq")


def read_manifest(
    root: str | Path,
    aus: Sequence[int],
    file: str | Path | None = None,
    pictures: str | Path | None = None,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    drop_row_if_any: bool = True,
    faults: Faults | None = None,
) -> dict[str, FrameTable]:
    """Reads the splits of a manifest.

    Paths are relative to the manifest's folder. Where there is no column ``subject`` the video stands for it,
    and where there is no ``video`` the path's folder does; two subjects of one video become two videos of the
    table. Where there is no ``split``, subjects are split into training and validation. Labels are 0, 1, or
    -1 for unknown; an empty cell is unknown.

    Args:
        root: The manifest, or a folder that holds a ``manifest.csv`` or ``manifest.parquet``.
        aus: AUs to read; columns are matched by their names.
        file: The manifest within ``root``; found if None.
        pictures: Folder that paths are relative to, absolute or within the manifest's; that folder if None.
        val_fraction: Share of the subjects to validate on where there is no column ``split``, in (0, 1).
        split_seed: Of that choice; see ``aunet.data.folds.inner_split``.
        drop_row_if_any: Drop a row when any of its labels is unknown, not only when all are.
        faults: Receives what is wrong with rows, which are then left out; if None, the first error is raised.

    Returns:
        FrameTable of "train", "val" and, if so listed, "test": by video, then by ``frame`` or, where there is
        no such column, in the order of the manifest.

    Raises:
        DataError: There is no manifest, several, or one that cannot be read; a split has no usable frame;
            without ``faults`` also if something is wrong with a row, which is named by its line.
    """
    manifest = find_manifest(Path(root), file)
    base = manifest.parent / (pictures or "")
    if not base.is_dir():
        raise DataError(f"data.read.pictures={pictures}: {base} is not a folder")
    found = Faults() if faults is None else faults
    rows = read_rows(manifest, aus, found)
    if faults is None or rows is None or not rows.paths:
        found.refuse()  # which says why nothing is left
    if rows is None:
        raise DataError(f"{manifest}: nothing can be read from it; mend it, or restore it from its source")
    if not rows.paths:
        raise DataError(f"{manifest} lists no usable frame")
    tables = _split_tables(manifest, base, rows, tuple(aus), val_fraction, split_seed, drop_row_if_any, found)
    where = {(split, video): (manifest, None) for split, table in tables.items() for video in table.videos}
    tables = without_shared_groups(tables, found, where)
    if faults is None:
        found.refuse()
    for split, table in tables.items():
        if not len(table):
            found.refuse()
            left_out = ", ".join(f"{n} {why}" for why, n in table.dropped.items() if n) or "it lists none"
            raise DataError(f"the {split} split of {manifest} has no usable frame ({left_out})")
    return tables


def find_manifest(root: Path, file: str | Path | None = None) -> Path:
    """The manifest at a place; raises DataError if there is none, or more than one."""
    if root.is_file():
        return root
    if file is not None:
        if not (root / file).is_file():
            raise DataError(f"data.read.file={file}: {root / file} is not a file")
        return root / file
    found = [root / name for name in _NAMES if (root / name).is_file()]
    if len(found) != 1:
        has = " and ".join(path.name for path in found) or "none"
        raise DataError(
            f"{root} must hold one of {', '.join(_NAMES)}, it has {has}; choose by data.read.file=NAME"
        )
    return found[0]


def _split_tables(
    manifest: Path,
    base: Path,
    rows: Rows,
    aus: tuple[int, ...],
    val_fraction: float,
    split_seed: int,
    drop_row_if_any: bool,
    faults: Faults,
) -> dict[str, FrameTable]:
    lines, labels = np.asarray(rows.column("lines")), np.asarray(rows.column("labels"))
    video, videos, groups = _videos(rows)
    split = rows.column("split")
    if split is None:
        split_of = inner_split(groups, val_fraction, split_seed)
        split = np.array([SPLITS.index(split_of[group]) for group in groups])[video]
    frame = rows.column("frame")
    if frame is None:
        frame = _places(video)
    unknown = labels == -1
    whole, part = unknown.all(1), unknown.any(1) & ~unknown.all(1)
    faults.add_lines("unknown-row", manifest, lines[whole])
    faults.add_lines("partly-unknown-row", manifest, lines[part])
    again, without = _check_pictures(manifest, base, rows.paths, lines, faults)
    keep = ~(whole | again | (part & drop_row_if_any))
    tables = {}
    for number, name in enumerate(SPLITS):
        mine = split == number
        if name == "test" and not mine.any():
            continue
        kept = np.flatnonzero(mine & keep & ~without)
        kept = kept[np.lexsort((frame[kept], video[kept]))]  # stable: then in the order of the manifest
        present, index = np.unique(video[kept], return_inverse=True)
        dropped = {
            "rows with -1 throughout": int((mine & whole & ~again).sum()),
            "rows with -1 in part": int((mine & part & ~again).sum()) if drop_row_if_any else 0,
            "labels without crop": int((mine & keep & without).sum()),
        }
        if not drop_row_if_any:
            dropped["single labels of -1 (masked) in rows kept"] = int(unknown[kept].sum())
        at_fault = int((mine & again).sum()) + (rows.faulty if number == 0 else 0)  # their split is not known
        if at_fault:
            dropped["rows at fault (skipped)"] = at_fault
        tables[name] = FrameTable(
            aus=aus,
            videos=tuple(videos[i] for i in present),
            groups=tuple(groups[i] for i in present),
            video=index.astype(np.int32),
            frame=frame[kept].astype(np.int32),
            labels=labels[kept],
            source=ListedFiles(base, [rows.paths[row] for row in kept]),
            dropped=dropped,
            grouped_by="subject" if rows.subjects else "video",
            files=(manifest,),
        )
    return tables


def _videos(rows: Rows) -> tuple[npt.NDArray[np.int64], list[str], list[str]]:
    """(N,) index of each row's video among the sorted ones, their names, and their groups."""
    video, names = np.asarray(rows.column("video"), np.int64), list(rows.videos)
    subject = rows.column("subject")
    if subject is None:
        videos = groups = names
    else:
        people = list(rows.subjects)
        pairs, video = np.unique(video * len(people) + subject, return_inverse=True)
        of_video, of_subject = np.divmod(pairs, len(people))
        several = np.bincount(of_video)[of_video] > 1
        groups = [people[i] for i in of_subject]
        videos = [
            f"{names[i]}:{group}" if more else names[i]
            for i, group, more in zip(of_video, groups, several, strict=True)
        ]
    order = sorted(range(len(videos)), key=lambda i: (videos[i], groups[i]))
    return np.argsort(order)[video], [videos[i] for i in order], [groups[i] for i in order]


def _places(video: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) place of each row among those of its video, from 1."""
    order = np.argsort(video, kind="stable")
    ordered = video[order]
    places = np.empty(len(video), np.int64)
    places[order] = np.arange(len(video)) - np.searchsorted(ordered, ordered) + 1
    return places


def _check_pictures(
    manifest: Path, base: Path, paths: Sequence[str], lines: npt.NDArray[np.int64], faults: Faults
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(N,) rows whose picture an earlier one has listed, and rows whose picture is not there.

    Each folder is listed once, where asking for each of a million files would take minutes on a network.
    """
    again, without = np.zeros(len(paths), bool), np.zeros(len(paths), bool)
    folders: dict[str, int] = {}
    folder = np.array([folders.setdefault(os.path.dirname(p), len(folders)) for p in paths], np.int64)  # noqa: PTH120  # a Path each is slow
    order = np.argsort(folder, kind="stable")
    ends = np.searchsorted(folder[order], np.arange(len(folders)), side="right")
    for name, rows in zip(folders, np.split(order, ends[:-1]), strict=True):
        present = _files(base / name)
        first: dict[str, int] = {}
        missing = []
        for row in rows.tolist():
            file = paths[row][len(name) :].removeprefix("/")
            before = first.setdefault(file, row)
            if before != row:
                again[row] = True
                found = f"{paths[row][:80]!r} is listed in line {lines[before]} already"
                faults.add("duplicate-row", manifest, found, int(lines[row]))
            elif present is None or file not in present:
                without[row] = True
                missing.append(row)
        why = (
            f"{base / name} holds no such picture"
            if present is not None
            else f"there is no folder {base / name}"
        )
        faults.add_lines("label-without-crop", manifest, lines[missing], why)
    return again, without


def _files(folder: Path) -> set[str] | None:
    """Names of a folder's files; None if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)}
    except OSError:
        return None
