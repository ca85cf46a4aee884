"""Numbers faces through a video by where they are: who in this frame was whom in the frames before."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LONGEST_GAP = 1.0
"""Seconds for which a face that is not seen keeps its number; longer where frames are further apart."""

_REACH = 0.6
"""Of its size, how far from where it is expected a face may be; grows to twice as much within LONGEST_GAP."""

_GROWTH = 1.6
"""Most that a face grows or shrinks from one frame to the next in which it is seen."""

_COASTING = 0.3
"""Seconds for which a face that is not seen is taken to move on."""


@dataclass
class _Track:
    number: int
    box: npt.NDArray[np.float64]
    seen: float
    velocity: npt.NDArray[np.float64] | None = None  # not known from one sight

    def expected(self, seconds: float) -> npt.NDArray[np.float64]:
        """The box at a later time."""
        if self.velocity is None:
            return self.box
        moved = self.velocity * min(max(seconds - self.seen, 0.0), _COASTING)
        return self.box + np.tile(moved, 2)


class Tracker:
    """Gives each person of a video a number: 0, 1, ... in the order in which they appear.

    A face is the one that was expected nearest to it. Nobody is recognised: after LONGEST_GAP out of sight,
    or after a cut, a person gets another number.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = 0
        self._time: float | None = None  # of the last frame
        self._step = math.inf  # to it from the one before

    def expected(self, seconds: float) -> npt.NDArray[np.float32]:
        """(m, 4) boxes of the faces that should be seen at a time."""
        longest = max(LONGEST_GAP, 1.5 * self._step)
        self._tracks = [track for track in self._tracks if seconds - track.seen <= longest]
        boxes = [track.expected(seconds) for track in self._tracks]
        return np.array(boxes, np.float32).reshape(-1, 4)

    def number(self, boxes: npt.NDArray[np.floating], seconds: float) -> npt.NDArray[np.int32]:
        """The numbers of the faces of a frame.

        Args:
            boxes: (n, 4), the most certain first.
            seconds: Time of the frame; frames come in order.

        Returns:
            (n,) numbers, all different.
        """
        expected = self.expected(seconds)
        numbers = np.full(len(boxes), -1, np.int32)
        for row, column in _pairs(expected, boxes, np.array([seconds - t.seen for t in self._tracks])):
            track, box = self._tracks[row], boxes[column].astype(np.float64)
            passed = seconds - track.seen
            if passed > 0:
                velocity = (_centres(box[None]) - _centres(track.box[None]))[0] / passed
                track.velocity = velocity if track.velocity is None else (track.velocity + velocity) / 2
            track.box, track.seen = box, seconds
            numbers[column] = track.number
        for column in np.flatnonzero(numbers < 0).tolist():
            numbers[column] = self._count
            box = boxes[column].astype(np.float64)
            self._tracks.append(_Track(self._count, box, seconds))
            self._count += 1
        if self._time is not None:
            self._step = seconds - self._time
        self._time = seconds
        return numbers


def _pairs(
    expected: npt.NDArray[np.floating], boxes: npt.NDArray[np.floating], gaps: npt.NDArray[np.float64]
) -> list[tuple[int, int]]:
    """(row of expected, row of boxes) of those that belong together, the nearest first."""
    if not len(expected) or not len(boxes):
        return []
    sizes, others = _sizes(expected)[:, None], _sizes(boxes)[None]
    apart = np.linalg.norm(_centres(expected)[:, None] - _centres(boxes)[None], axis=2)
    distance = apart / np.sqrt(sizes * others)
    reach = _REACH * (1 + np.clip(gaps, 0, LONGEST_GAP) / LONGEST_GAP)[:, None]
    growth = np.maximum(sizes / others, others / sizes)
    distance[(distance > reach) | (growth > _GROWTH)] = np.inf
    pairs: list[tuple[int, int]] = []
    while np.isfinite(nearest := distance.min()):
        row, column = np.argwhere(distance == nearest)[0].tolist()
        pairs.append((row, column))
        distance[row], distance[:, column] = np.inf, np.inf
    return pairs


def _centres(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _sizes(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), axis=1)))
