"""What happens to probabilities before they are an answer: smoothing over time, filling of gaps, thresholds.

All of it goes by time stamps, never by frame counts: videos drop frames, vary in frame rate, and faces come
and go. One face track, or the crops of one person in one video, is worked on at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from aunet.metrics import THRESHOLD
from aunet.thresholds import Array, Labels, Probs, best_threshold, check_probs, rankings

Smoothing = Literal["none", "centred", "causal"]
Fill = Literal["none", "linear", "last"]

_ROUNDING = 1e-6
"""Seconds by which time stamps may be off: frames at the very end of a window belong to it all the same."""


@dataclass(frozen=True)
class Postprocess:
    """Probabilities of one face over time -> smoothed and filled probabilities, and occurrence.

    A window holds what was seen within it, however many frames that are; frames without a face count neither
    as 0 nor at all. Smoothing comes first and changes only frames with a face; then gaps are filled.

    Attributes:
        threshold: Probability in [0, 1] from which on an AU counts as present: one for all AUs, one for each,
            or "tuned", which ``tuned`` replaces before use.
        smoothing: "centred": mean over the frames at most half of ``smoothing_seconds`` away. "causal": mean
            over the frame and those at most ``smoothing_seconds`` before it.
        smoothing_seconds: Width of that window.
        fill: What a frame without a face gets. "linear": interpolated between the frames before and behind
            the gap, the nearest one at either end. "last": what the last frame with a face has; with causal
            smoothing nothing then depends on the future.
        fill_seconds: Longest gap that is filled, from the frame before it to the one behind it; at the ends,
            and with "last", how far away the frame may be. What is further away stays unknown.

    Raises:
        ValueError: An attribute is out of range; names it.
    """

    threshold: float | Sequence[float] | Literal["tuned"] = THRESHOLD
    smoothing: Smoothing = "none"
    smoothing_seconds: float = 0.0
    fill: Fill = "none"
    fill_seconds: float = 0.0

    def __post_init__(self) -> None:
        for key, allowed in (("smoothing", get_args(Smoothing)), ("fill", get_args(Fill))):
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"postprocess.{key}={getattr(self, key)} must be one of {', '.join(allowed)}"
                )
            seconds = getattr(self, f"{key}_seconds")
            if getattr(self, key) == "none" and seconds != 0:
                raise ValueError(
                    f"postprocess.{key}_seconds={seconds} changes nothing while postprocess.{key} is none"
                )
            wide = isinstance(seconds, (int, float)) and seconds > 0
            if getattr(self, key) != "none" and not wide:
                raise ValueError(f"postprocess.{key}_seconds={seconds} must be a number above 0")
        if isinstance(self.threshold, str):
            good = self.threshold == "tuned"
        else:
            values = np.asarray(self.threshold, np.float64)
            good = values.ndim <= 1 and bool(((values >= 0) & (values <= 1)).all())
        if not good:
            raise ValueError(
                f"postprocess.threshold={self.threshold} must be numbers from 0 to 1, or 'tuned'"
            )

    def __call__(self, probs: Probs, seconds: npt.ArrayLike) -> tuple[Array, Labels]:
        """Smooths, fills and detects.

        Args:
            probs: (n, num_aus) in [0, 1] of one face in the order of time; rows of NaN where it was not seen.
            seconds: (n,) time stamps, in any steps that do not go back.

        Returns:
            (n, num_aus) probabilities, NaN where nothing is known; (n, num_aus) occurrence in {0, 1, -1}, -1
            where nothing is known.

        Raises:
            ValueError: Shapes or ranges are wrong, or thresholds are still to be tuned.
        """
        ready = self.over_time(probs, seconds)
        return ready, self.detect(ready)

    def over_time(self, probs: Probs, seconds: npt.ArrayLike) -> Array:
        """The probabilities of ``__call__`` alone; needs no threshold."""
        values, times = np.array(probs, np.float64), np.asarray(seconds, np.float64)
        seen = _seen(values, times)
        if self.smoothing != "none":
            half = self.smoothing == "centred"
            before = self.smoothing_seconds / 2 if half else self.smoothing_seconds
            values[seen] = moving_average(values[seen], times[seen], before, before if half else 0.0)
        if self.fill != "none" and seen.any() and not seen.all():
            _fill(values, times, seen, self.fill == "linear", self.fill_seconds)
        return values

    def detect(self, probs: Probs) -> Labels:
        """(n, num_aus) probabilities or NaN -> occurrence in {0, 1, -1}.

        Raises:
            ValueError: Thresholds are still to be tuned, or are those of other AUs.
        """
        if isinstance(self.threshold, str):
            raise ValueError("postprocess.threshold=tuned: labelled predictions are needed to tune it on")
        threshold = np.asarray(self.threshold, np.float64)
        if threshold.ndim and len(threshold) != probs.shape[1]:
            raise ValueError(
                f"postprocess.threshold: {len(threshold)} values for {probs.shape[1]} AUs; give one for each"
            )
        return np.where(np.isnan(probs), -1, probs >= threshold).astype(np.int8)

    def by_track(self, probs: Probs, seconds: npt.ArrayLike, track: npt.ArrayLike) -> Array:
        """``over_time`` for frames of many faces, in any order.

        Args:
            probs: (N, num_aus) as in ``__call__``.
            seconds: (N,) time stamp of each frame within its video.
            track: (N,) name or number of each frame's face track.
        """
        _, number = np.unique(np.asarray(track), return_inverse=True)
        times = np.asarray(seconds, np.float64)
        result = np.empty(probs.shape, np.float64)
        order = np.lexsort((times, number))
        for rows in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            result[rows] = self.over_time(probs[rows], times[rows])
        return result

    def tuned(
        self, probs: Probs, labels: Labels, seconds: npt.ArrayLike, track: npt.ArrayLike
    ) -> "Postprocess":
        """With the thresholds of the highest F1 of each AU on labelled frames, where they are to be tuned.

        The frames must not be those that the thresholds are then used on; to measure the effect on the
        labelled frames themselves, ``thresholds.cross_fitted_thresholds`` tunes them on other videos.

        Args:
            probs: (N, num_aus) in [0, 1].
            labels: (N, num_aus) in {0, 1, -1}; -1 is not counted.
            seconds: See ``by_track``, as the next.
            track: See there.
        """
        if not isinstance(self.threshold, str):
            return self
        ranked = rankings(self.by_track(probs, seconds, track), labels)
        return replace(self, threshold=tuple(best_threshold(ranking) for ranking in ranked))


def moving_average(values: Array, times: Array, before: float, after: float) -> Array:
    """Mean over the frames of a window around each frame.

    Args:
        values: (n, num_aus).
        times: (n,) seconds, not falling.
        before: Seconds by which the window reaches back, inclusive.
        after: Seconds by which it reaches ahead, inclusive; 0: up to the frame itself.

    Returns:
        (n, num_aus).
    """
    if not len(values):
        return values
    first = np.searchsorted(times, times - before - _ROUNDING, side="left")
    if after:
        end = np.searchsorted(times, times + after + _ROUNDING, side="right")
    else:  # not even later frames of the same time
        end = np.arange(1, len(values) + 1)
    # Each window is summed by itself: differences of running sums would leave rounding errors behind. Of the
    # sums between pairs of ends, every second one is of a window; a row of zeros ends the last.
    padded = np.concatenate([values, np.zeros_like(values[:1])])
    sums = np.add.reduceat(padded, np.stack([first, end], 1).ravel(), axis=0)[::2]
    return np.asarray(sums / (end - first)[:, None])


def _seen(values: Array, times: Array) -> npt.NDArray[np.bool_]:
    """(n,) whether a row has a face; ValueError where arrays are not as documented."""
    if times.shape != values.shape[:1]:
        raise ValueError(f"seconds {times.shape} must give the time of each of {len(values)} frames")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError("seconds must be finite and must not go back")
    seen = ~np.isnan(values).all(-1)
    check_probs(values[seen])
    return np.asarray(seen)


def _fill(values: Array, times: Array, seen: npt.NDArray[np.bool_], linear: bool, longest: float) -> None:
    """Gives values to the rows that are not seen, as far as gaps are not too long."""
    known, missing = np.flatnonzero(seen), np.flatnonzero(~seen)
    following = np.searchsorted(known, missing)
    left = known[np.maximum(following - 1, 0)]
    right = known[np.minimum(following, len(known) - 1)] if linear else left
    inside = left != right
    span = np.where(inside, times[right] - times[left], np.abs(times[missing] - times[left]))
    near = span <= longest + _ROUNDING
    if not linear:
        near &= following > 0
    rows, left, right, span = missing[near], left[near], right[near], np.where(inside, span, np.inf)[near]
    share = np.divide(times[rows] - times[left], span, out=np.zeros(len(rows)), where=span > 0)
    values[rows] = np.clip(values[left] + share[:, None] * (values[right] - values[left]), 0, 1)


def frame_seconds(frame: npt.NDArray[np.integer[Any]], frames_per_second: float) -> Array:
    """(N,) numbers of frames, from 1 -> seconds from the first one on.

    Raises:
        ValueError: The frame rate is not above 0.
    """
    if not frames_per_second > 0 or not np.isfinite(frames_per_second):
        raise ValueError(f"frames per second: {frames_per_second} must be more than 0")
    return np.asarray((frame - 1) / frames_per_second, np.float64)
