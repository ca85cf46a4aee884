"""What rows tell of each face over time, in as many steps as a drawing can show, in constant memory."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aunet.drawing.rows import Rows

BINS = 800
"""Most steps of time that are told apart: about one for each pixel of the width."""


@dataclass
class Course:
    """One face over B steps of time; NaN where nothing is known.

    Attributes:
        face: Its number.
        frames: In how many frames something is known of it.
        low, mean, high: (B, num_aus) probabilities within each step.
        share: (B, num_aus) of the step's frames in which the AU is present.
    """

    face: int
    frames: int
    low: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]


def steps(chunks: Iterable[Rows]) -> tuple[npt.NDArray[np.float64], list[int]]:
    """How time is divided, and the faces, those seen in most frames first.

    Up to BINS frames each have a step of their own; more share steps of equal length, of which some may hold
    no frame: see ``follow``.

    Args:
        chunks: Records.

    Returns:
        (B + 1,) edges of the steps in seconds; numbers of the faces.

    Raises:
        ValueError: The records have no times.
    """
    counts: dict[int, int] = {}
    times: npt.NDArray[np.float64] = np.empty(0)
    first, last, frames = math.inf, -math.inf, 0
    before = -1
    for rows in chunks:
        if np.isnan(rows["time_s"]).any():
            raise ValueError("a timeline is one of a video: pictures and data sets have no times")
        new = np.diff(rows["frame"], prepend=before) != 0
        before = int(rows["frame"][-1])
        seconds = rows["time_s"][new]
        frames += len(seconds)
        if len(times) <= BINS:
            times = np.concatenate([times, seconds[: BINS + 1]])
        first, last = min(first, float(rows["time_s"].min())), max(last, float(rows["time_s"].max()))
        for face, count in zip(*np.unique(rows["face"], return_counts=True), strict=True):
            counts[int(face)] = counts.get(int(face), 0) + int(count)
    counts.pop(-1, None)
    faces = sorted(counts, key=lambda face: (-counts[face], face))
    if frames > BINS:
        return np.linspace(first, np.nextafter(last, math.inf), BINS + 1), faces
    starts = np.unique(times)
    step = float(np.median(np.diff(starts))) if len(starts) > 1 else 0.04
    return np.append(starts, starts[-1] + step), faces


def follow(chunks: Iterable[Rows], edges: npt.NDArray[np.float64], faces: Sequence[int]) -> list[Course]:
    """Sums up each face's rows by steps of time, in constant memory.

    A frame is seen until the next one begins: a step in which none of the video's frames begins is as the one
    before it.

    Args:
        chunks: Records.
        edges: (B + 1,) of the steps.
        faces: Numbers of those to follow.

    Returns:
        In order of the faces' numbers.
    """
    bins = len(edges) - 1
    tables: dict[int, list[npt.NDArray[np.float64]]] = {}
    begins = np.zeros(bins, bool)
    for rows in chunks:
        places = np.clip(np.searchsorted(edges, rows["time_s"], "right") - 1, 0, bins - 1)
        begins[places] = True
        for face in faces:
            mine = rows["face"] == face
            if face not in tables:
                nothing = np.zeros((bins, rows["probs"].shape[1]))
                tables[face] = [
                    nothing + np.inf,
                    nothing.copy(),
                    nothing - np.inf,
                    nothing.copy(),
                    np.zeros(bins),
                ]
            low, total, high, present, count = tables[face]
            at, probs = places[mine], rows["probs"][mine].astype(np.float64)
            np.minimum.at(low, at, probs)
            np.maximum.at(high, at, probs)
            np.add.at(total, at, probs)
            np.add.at(present, at, rows["occurrence"][mine] == 1)
            np.add.at(count, at, 1)
    lasting = np.maximum.accumulate(np.where(begins, np.arange(bins), 0))
    courses = []
    for face in sorted(tables):
        low, total, high, present, count = tables[face]
        seen = np.where(count > 0, count, np.nan)[:, None]
        low[count == 0], high[count == 0] = np.nan, np.nan
        parts = (part[lasting] for part in (low, total / seen, high, present / seen))
        courses.append(Course(face, int(count.sum()), *parts))
    return courses
