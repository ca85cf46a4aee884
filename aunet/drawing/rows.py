"""Rows of a table on their way into pictures: by frames, and each face at a place that it keeps."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aunet.predict.track import LONGEST_GAP

Rows = npt.NDArray[np.void]

MOST_FACES = 8
"""That are drawn with their AUs; of others the box alone."""


def seen(rows: Rows, crops: bool) -> npt.NDArray[np.bool_]:
    """Which rows are of a face that is to be seen: some are only filled in, and have no box.

    Args:
        rows: (n,) records.
        crops: Frames are aligned crops, without boxes.
    """
    there: npt.NDArray[np.bool_] = (rows["face"] >= 0) & (crops | ~np.isnan(rows["box"]).any(1))
    return there


def by_frame(chunks: Iterable[Rows]) -> Iterator[Rows]:
    """The records of each frame, of chunks that end anywhere."""
    held: Rows | None = None
    for chunk in chunks:
        rows = chunk if held is None else np.concatenate([held, chunk])
        starts = np.flatnonzero(np.diff(rows["frame"])) + 1
        *frames, held = np.split(rows, starts)
        yield from frames
    if held is not None:
        yield held


@dataclass
class _Place:
    face: int
    seen: float


class Places:
    """Gives each face a place that it keeps until it has been out of sight for LONGEST_GAP."""

    def __init__(self) -> None:
        self._taken: list[_Place | None] = []

    def of(self, rows: Rows) -> Sequence[int | None]:
        """For each place the row that is there now.

        Args:
            rows: Records of one frame; frames come in order.

        Returns:
            As many as have been needed, at most MOST_FACES.
        """
        seconds = float(rows["time_s"][0])
        now = {int(face): row for row, face in enumerate(rows["face"]) if face >= 0}
        for number, place in enumerate(self._taken):
            if place is not None and place.face in now:
                place.seen = seconds
            elif place is not None and seconds - place.seen > LONGEST_GAP:
                self._taken[number] = None
        here = {place.face for place in self._taken if place is not None}
        for face in sorted(now.keys() - here):
            self._add(_Place(face, seconds))
        return [now.get(place.face) if place else None for place in self._taken]

    def _add(self, new: _Place) -> None:
        for number, place in enumerate(self._taken):
            if place is None:
                self._taken[number] = new
                return
        if len(self._taken) < MOST_FACES:
            self._taken.append(new)


@dataclass(frozen=True)
class Extent:
    """Of a file's rows.

    Attributes:
        frames: How many.
        places: How many faces need at once.
    """

    frames: int
    places: int


def extent(chunks: Iterable[Rows]) -> Extent:
    """Looks through the rows of a file once."""
    places, frames, most = Places(), 0, 0
    for rows in by_frame(chunks):
        frames += 1
        most = max(most, len(places.of(rows)))
    return Extent(frames, most)
