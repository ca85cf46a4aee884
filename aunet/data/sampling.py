"""Which frames an epoch of training takes, and in which order, from (seed, epoch) alone.

Neighbouring frames of a video are nearly the same picture, so that an epoch need not take them all. Paper Eq.
4 weights an AU by training samples / (2 x positive samples); where an epoch takes other frames than each
once, both numbers are those that an epoch holds on average:

    stride             counts of the frames that the stride keeps
    frames_per_video   each frame counts with its chance of being drawn, n / (frames of its video), at most 1
    balance=videos     each frame counts as often as it is taken on average, m / (frames of its video)
    balance=labels     each frame counts as often as it is drawn on average; rare AUs get smaller weights,
    since
                       the drawing has raised their rate already
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from aunet.data.frames import FrameTable

_COUNTED_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Sampling:
    """How an epoch draws its frames.

    Attributes:
        stride: Keep every stride-th labelled frame of each video, the same in all epochs.
        frames_per_video: Frames that an epoch draws from each video, anew in each epoch; None: all of them. A
            video that has fewer gives them all; with ``balance`` it gives some of them more than once.
        balance: "videos" takes equally many frames of each video (``frames_per_video``, else the mean number
            of frames of a video). "labels" draws frames with replacement, those of rare AUs more often: a
            frame's chance is the largest 1 / (positives of the AU) over the AUs that it shows, and
            1 / (frames without any AU) if it shows none. None takes frames as they come.
    """

    stride: int = 1
    frames_per_video: int | None = None
    balance: Literal["videos", "labels"] | None = None

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ValueError(f"sampling.stride={self.stride} must be 1 or more")
        if self.frames_per_video is not None and self.frames_per_video < 1:
            raise ValueError(f"sampling.frames_per_video={self.frames_per_video} must be 1 or more, or null")
        if self.balance not in (None, "videos", "labels"):
            raise ValueError(f"sampling.balance={self.balance} must be videos, labels or null")

    def thin(self, table: FrameTable) -> FrameTable:
        """The table of the frames that the stride keeps."""
        if self.stride == 1:
            return table
        starts = _starts(table)
        position = np.arange(len(table)) - starts[table.video]
        return table.take(np.flatnonzero(position % self.stride == 0))

    def epoch_size(self, table: FrameTable) -> int:
        """Frames in an epoch."""
        per_video = self._per_video(table)
        return len(table) if per_video is None else int(per_video.sum())

    def order(self, table: FrameTable, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Rows of the thinned table in the order in which an epoch takes them."""
        rng = np.random.default_rng((seed, epoch))
        if self.balance == "labels":
            cumulated = np.cumsum(label_weights(table))
            drawn = rng.random(self.epoch_size(table)) * cumulated[-1]
            rows = np.searchsorted(cumulated, drawn, side="right")
            return np.asarray(rows.clip(max=len(table) - 1), dtype=np.int64)
        per_video = self._per_video(table)
        if per_video is None:
            return rng.permutation(len(table))
        starts, sizes = _starts(table), _sizes(table)
        rows = [
            start + _repeated(rng, size, wanted)
            for start, size, wanted in zip(starts, sizes, per_video, strict=True)
        ]
        return rng.permutation(np.concatenate(rows))

    def expected_counts(self, table: FrameTable) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(positives, known) of each AU in an epoch, on average: what Eq. 4 counts."""
        if self.balance == "labels":
            weights = label_weights(table)
            weights *= self.epoch_size(table) / weights.sum()
        else:
            per_video = self._per_video(table)
            if per_video is None:
                return table.positives().astype(np.float64), table.known().astype(np.float64)
            weights = (per_video / _sizes(table))[table.video]
        positives, known = np.zeros(len(table.aus)), np.zeros(len(table.aus))
        for start in range(0, len(table), _COUNTED_AT_ONCE):
            part = slice(start, start + _COUNTED_AT_ONCE)
            positives += weights[part] @ (table.labels[part] == 1)
            known += weights[part] @ (table.labels[part] >= 0)
        return positives, known

    def _per_video(self, table: FrameTable) -> npt.NDArray[np.int64] | None:
        """Frames that an epoch takes of each video; None: all of them."""
        if self.frames_per_video is None and self.balance != "videos":
            return None
        sizes = _sizes(table)
        wanted = self.frames_per_video or max(1, round(len(table) / len(sizes)))
        return np.minimum(sizes, wanted) if self.balance is None else np.full(len(sizes), wanted)


def label_weights(table: FrameTable) -> npt.NDArray[np.float64]:
    """(N,) chance of each frame under ``balance=labels``, not normalised."""
    positives = table.positives()
    rarity = np.divide(1.0, positives, out=np.zeros(len(positives)), where=positives > 0)
    weights = np.empty(len(table))
    for start in range(0, len(table), _COUNTED_AT_ONCE):
        part = slice(start, start + _COUNTED_AT_ONCE)
        weights[part] = ((table.labels[part] == 1) * rarity).max(1, initial=0)
    without = weights == 0
    weights[without] = 1 / max(1, int(without.sum()))
    return weights


def _sizes(table: FrameTable) -> npt.NDArray[np.int64]:
    return np.bincount(table.video, minlength=len(table.videos))


def _starts(table: FrameTable) -> npt.NDArray[np.int64]:
    """First row of each video."""
    return np.concatenate(([0], np.cumsum(_sizes(table))[:-1])).astype(np.int64)


def _repeated(rng: np.random.Generator, size: int, wanted: int) -> npt.NDArray[np.int64]:
    """``wanted`` of ``size`` numbers, each as often as any other but for one."""
    whole, rest = divmod(wanted, size)
    return np.concatenate([*([np.arange(size)] * whole), rng.permutation(size)[:rest]])
