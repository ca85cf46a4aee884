"""Scores of maps over frames, summed over videos, and what follows: means and differences with intervals."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from aunet.localisation.maps import Maps
from aunet.localisation.scores import MEASURES, relative, scores
from aunet.statistics import Estimate, mean_intervals

Array = npt.NDArray[np.float64]

COMPARED = (
    ("attention", "uniform"),
    ("attention", "centre"),
    ("attention", "grad_cam"),
    ("attention", "attention_untrained"),
    ("attention", "attention_others"),
    ("grad_cam", "uniform"),
    ("grad_cam", "centre"),
    ("grad_cam", "grad_cam_untrained"),
    ("grad_cam", "grad_cam_others"),
)
"""Pairs of methods whose difference on the same frames is told, the first less the second."""

_OF_ONE_AU = ("attention_others", "grad_cam_others")
"""Methods that mean nothing where the AUs of a frame are taken together."""

OWN, UNION = "own", "union"
"""What a map is compared with: the region of one AU, or those of all AUs that are present."""

MACRO = "macro"

Sums = dict[str, Array]
"""By OWN and UNION, (V, num_aus, 3) and (V, 1, 3): scores summed over the frames of each video."""

_BOUNDS = {"energy": (0.0, 1.0), "pointing": (0.0, 1.0), "rank": (-1.0, 1.0)}
_AT_ONCE = 256


@dataclass(frozen=True)
class Sample:
    """The frames that are looked at.

    Attributes:
        rows: (n,) of the validation table.
        labels: (n, num_aus).
        group: (n,) number of each frame's independent video or person, from 0.
        moved: (n, num_aus, 28, 28) displacements, see ``aunet.data.rendered.truth``; None where unknown.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    group: npt.NDArray[np.int64]
    moved: npt.NDArray[np.uint8] | None

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """(n, num_aus) whether an AU is present and, where that is known, moved anything that is seen."""
        present: npt.NDArray[np.bool_] = self.labels == 1
        return present if self.moved is None else present & (self.moved.max((2, 3)) > 0)

    @cached_property
    def counts(self) -> dict[str, Array]:
        """By OWN and UNION, (V, num_aus) and (V, 1): how many frames the scores are summed over."""
        own = np.zeros((int(self.group.max()) + 1, self.labels.shape[1]))
        np.add.at(own, self.group, self.shown)
        union = np.zeros((len(own), 1))
        np.add.at(union, self.group, self.shown.any(1, keepdims=True))
        return {OWN: own, UNION: union}


@dataclass(frozen=True)
class Score(Estimate):
    """A score, or a difference of two, averaged over frames, AUs and seeds.

    Attributes:
        row: Name of the row; "" for priors, which are the same for all.
        method: Whose maps: one of those in COMPARED.
        less: The method whose score was subtracted; "" for none.
        target: OWN or UNION.
        au: "AU1" and so on, or MACRO; of UNION always MACRO.
        measure: One of ``scores.MEASURES``.
        by_seed: The value of each seed.
    """

    row: str
    method: str
    less: str
    target: str
    au: str
    measure: str
    by_seed: tuple[float, ...]


def score_frames(maps: Mapping[str, Maps], sample: Sample) -> dict[str, Sums]:
    """Scores of all pairs of a frame and an AU that it shows, and of all frames against the union.

    Of maps for each AU, the mean over the AUs that are present is compared with the union.

    Args:
        maps: By method, each over all frames of the sample.
        sample: One with displacements.
    """
    if sample.moved is None:
        raise ValueError("nothing is known of where AUs moved the face")
    groups, num_aus = len(sample.counts[OWN]), sample.labels.shape[1]
    sums = {
        name: {OWN: np.zeros((groups, num_aus, len(MEASURES))), UNION: np.zeros((groups, 1, len(MEASURES)))}
        for name in maps
    }
    shown = sample.shown
    for first in range(0, len(shown), _AT_ONCE):
        frame, au = np.nonzero(shown[first : first + _AT_ONCE])  # ordered by frame
        if not len(frame):
            continue
        frame += first
        starts = np.flatnonzero(np.diff(frame, prepend=-1))
        aus_of_frame = np.diff(starts, append=len(frame))[:, None, None]
        moved, group = relative(sample.moved[frame, au]), sample.group[frame]
        union = np.maximum.reduceat(moved, starts)
        for name, of_method in maps.items():
            cells = of_method.on_grid(frame, au)
            np.add.at(sums[name][OWN], (group, au), scores(cells, moved))
            mean = np.add.reduceat(cells, starts) / aus_of_frame
            np.add.at(sums[name][UNION], (group[starts], 0 * starts), scores(mean, union))
    return sums


def estimates(
    row: str,
    seeds: Sequence[Mapping[str, Sums]],
    priors: Mapping[str, Sums],
    sample: Sample,
    aus: Sequence[str],
    resamples: int,
) -> list[Score]:
    """Means and differences of a row's scores, with 95% intervals over videos and seeds.

    Args:
        row: Its name.
        seeds: For each seed what ``score_frames`` gives, with the same methods.
        priors: The same of methods that all rows share, to be subtracted.
        sample: The frames.
        aus: Names of the AUs.
        resamples: Of the intervals.
    """
    found: list[Score] = []
    for target, counts in sample.counts.items():
        columns = {MACRO: slice(None)}
        if target == OWN:
            columns |= {au: slice(i, i + 1) for i, au in enumerate(aus) if counts[:, i].any()}
        for (number, measure), (au, column) in product(enumerate(MEASURES), columns.items()):
            low, high = _BOUNDS[measure]
            of = {
                name: np.stack([{**run, **priors}[name][target][:, column, number] for run in seeds])
                for name in (*seeds[0], *priors)
                if target == OWN or name not in _OF_ONE_AU
            }
            told = {(name, ""): of[name] for name in of if name in seeds[0]}
            about = (row, target, au, measure)
            found += _scores(about, told, counts[:, column], resamples, (low, high))
            if au == MACRO:
                less = {
                    (one, other): of[one] - of[other] for one, other in COMPARED if {one, other} <= of.keys()
                }
                found += _scores(about, less, counts[:, column], resamples, (low - high, high - low))
    return found


def _scores(
    about: tuple[str, str, str, str],
    told: Mapping[tuple[str, str], Array],
    counts: Array,
    resamples: int,
    bounds: tuple[float, float],
) -> list[Score]:
    """Scores of (method, less) from their (S, V, num_aus) sums."""
    if not told:
        return []
    row, target, au, measure = about
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ videos: an interval")  # a note says so once
        intervals = mean_intervals(np.stack([*told.values()]), counts, resamples=resamples, bounds=bounds)
    frames = counts.sum(0)
    return [
        Score(
            **vars(interval),
            row=row,
            method=method,
            less=less,
            target=target,
            au=au,
            measure=measure,
            by_seed=tuple((sums.sum(1)[:, frames > 0] / frames[frames > 0]).mean(1).tolist()),
        )
        for ((method, less), sums), interval in zip(told.items(), intervals, strict=True)
    ]
