"""Reads several data sets as one, over the union of their AUs; what one does not label is unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.data.faults import DataError, Faults
from aunet.data.frames import FrameTable
from aunet.data.sources import FrameSource
from aunet.data.store import is_store, open_store, recipe
from aunet.facs import au_column


class Joined:
    """The pictures of several sources, one after another.

    Args:
        sources: The sources.
        lengths: How many frames each has.

    Raises:
        DataError: Some give pixels and others files, or pixels of another size.
    """

    def __init__(self, sources: Sequence[FrameSource], lengths: Sequence[int]) -> None:
        if len({source.raw for source in sources}) > 1:
            raise DataError("data sets to be mixed must all be files, or stores of pixels of one size")
        self.sources = tuple(sources)
        self.bounds: npt.NDArray[np.int64] = np.cumsum([0, *lengths])
        self.raw = sources[0].raw

    def name(self, index: int) -> str:
        """How its source names the frame."""
        source, row = self._locate(index)
        return source.name(row)

    def read(self, index: int) -> bytes:
        """The frame's bytes; raises PictureError."""
        source, row = self._locate(index)
        return source.read(row)

    def fill(self, index: int, out: npt.NDArray[np.uint8], resize: bool) -> None:
        """The frame's pixels into (H, W, 3) ``out``; raises PictureError."""
        source, row = self._locate(index)
        source.fill(row, out, resize)

    def _locate(self, index: int) -> tuple[FrameSource, int]:
        part = int(np.searchsorted(self.bounds, index, side="right")) - 1
        return self.sources[part], int(index - self.bounds[part])


def read_mixed(
    root: str | Path,
    aus: Sequence[int],
    parts: Mapping[str, Mapping[str, Any]],
    faults: Faults | None = None,
) -> dict[str, FrameTable]:
    """Reads several data sets and joins the tables of each split.

    Args:
        root: Folder of the data sets.
        aus: AUs of the joined tables, in the order wanted.
        parts: For each data set's name: ``read``, a reader with its options bound; ``root``, its folder, its
            store or its manifest, absolute or within ``root``; and ``aus``, those that it labels.
        faults: Receives what is wrong with files and rows, which are then left out; if None, the first error
            is raised.

    Returns:
        FrameTable of every split that any of them has. Videos and groups begin with ``name/``; groups are
        subjects only if they are in every data set.

    Raises:
        DataError: A part is not as described, its AUs are not among ``aus``, its data set cannot be read, or
            some are stores of pixels and others are not.
    """
    wanted = tuple(aus)
    found = Faults() if faults is None else faults
    # Sorted as the names of the videos will be.
    tables = {
        name: _read_part(Path(root), name, parts[name], wanted, found)
        for name in sorted(parts, key="{}/".format)
    }
    if not tables:
        raise DataError("data.read.parts names no data set")
    if faults is None:
        found.refuse()
    names = ("train", "val", "test")
    return {
        split: _join({name: table[split] for name, table in tables.items() if split in table}, wanted)
        for split in names
        if any(split in table for table in tables.values())
    }


def _read_part(
    root: Path, name: str, part: Mapping[str, Any], aus: tuple[int, ...], faults: Faults
) -> dict[str, FrameTable]:
    if set(part) != {"read", "root", "aus"} or not name or "/" in name:
        raise DataError(f"data.read.parts.{name} must give read, root and aus, and a name without '/'")
    own, place = tuple(part["aus"]), root / part["root"]
    if others := [au for au in own if au not in aus]:
        raise DataError(
            f"data.read.parts.{name}.aus has {', '.join(map(au_column, others))}, which data.aus lacks"
        )
    if is_store(place):
        return open_store(place, own, recipe(part["read"]))
    tables: dict[str, FrameTable] = part["read"](root=place, aus=own, faults=faults)
    return tables


def _join(tables: Mapping[str, FrameTable], aus: tuple[int, ...]) -> FrameTable:
    """One split's tables, in this order, as one."""
    labels = np.full((sum(map(len, tables.values())), len(aus)), -1, np.int8)
    video = np.empty(len(labels), np.int32)
    start = videos = 0
    for table in tables.values():
        rows = slice(start, start + len(table))
        for column, au in enumerate(table.aus):
            labels[rows, aus.index(au)] = table.labels[:, column]
        video[rows] = table.video + np.int32(videos)
        start, videos = rows.stop, videos + len(table.videos)
    first = next(iter(tables.values()))
    return replace(
        first,
        aus=aus,
        videos=tuple(f"{name}/{video}" for name, table in tables.items() for video in table.videos),
        groups=tuple(f"{name}/{group}" for name, table in tables.items() for group in table.groups),
        video=video,
        frame=np.concatenate([table.frame for table in tables.values()]),
        labels=labels,
        source=Joined([table.source for table in tables.values()], [len(table) for table in tables.values()]),
        dropped={f"{name}: {why}": n for name, table in tables.items() for why, n in table.dropped.items()},
        grouped_by="subject" if all(t.grouped_by == "subject" for t in tables.values()) else "video",
        pictures=None,
        files=tuple(file for table in tables.values() for file in table.files),
    )
