"""What faces do over time: when each AU comes and goes, how strongly, and how head and eyes drift.

AU events are dealt out over a whole split until each AU has its share of positive frames, so that rare AUs
are as frequent in a small split as in a large one. Rare AUs come first, each bringing its usual companions,
all of which are more frequent than itself, so that no share is overshot by much.
"""

import numpy as np
import numpy.typing as npt

from aunet import facs
from aunet.data.rendered.actions import DISTRACTORS
from aunet.data.rendered.head import Floats
from aunet.data.rendered.scene import Pose

FRAMES_PER_SECOND = 30.0
LABEL_THRESHOLD = 0.3
"""An AU is labelled 1 where its intensity, in [0, 1], is at least this."""
APEX = (0.5, 1.0)
"""Range of intensity at the apex of an event."""
WEAK_APEX = (0.05, 0.22)
"""Range at the apex of activations too weak for a label."""
WEAK_EVENTS_PER_SECOND = 0.03
"""Of each AU."""
DISTRACTIONS_PER_SECOND = 0.035
"""Of each facial action in DISTRACTORS."""
BLINK_CHANCE = 0.05
"""Share of frames that catch a blink."""
TURN_SPREAD, TURN_LIMIT = (0.24, 0.11, 0.12), (0.55, 0.30, 0.35)
"""Yaw, pitch, roll of the head in radians: standard deviation, and limit."""
GAZE_SPREAD, GAZE_LIMIT = (0.16, 0.09), (0.45, 0.30)
"""Yaw, pitch of the eyes in radians: standard deviation, and limit."""
ONSET_SECONDS, OFFSET_SECONDS = (0.15, 0.45), (0.25, 0.7)

RATES: dict[int, float] = {
    1: 0.118, 2: 0.050, 4: 0.154, 6: 0.266, 7: 0.397, 10: 0.345, 12: 0.245, 15: 0.028, 23: 0.0315, 24: 0.0256,
    25: 0.627, 26: 0.074,
}  # fmt: skip
"""Share of positive frames of each AU: the training rates of Aff-Wild2 (ABAW 2022)."""

HOLD_SECONDS: dict[int, tuple[float, float]] = {
    1: (0.6, 2.5), 2: (0.6, 2.0), 4: (1.0, 3.5), 6: (1.0, 4.0), 7: (1.5, 5.0), 10: (1.0, 4.0), 12: (1.0, 4.0),
    15: (0.5, 1.5), 23: (0.5, 1.5), 24: (0.5, 1.5), 25: (1.5, 5.0), 26: (0.6, 2.0),
}  # fmt: skip
"""Range of the time at the apex."""

COMPANIONS: dict[int, dict[int, float]] = {
    24: {4: 0.2, 7: 0.2},
    15: {1: 0.3, 4: 0.4, 7: 0.2},
    23: {4: 0.3, 7: 0.3},
    2: {1: 0.7, 25: 0.5},
    26: {25: 1.0, 10: 0.3},
    1: {4: 0.2, 25: 0.5},
    4: {7: 0.5, 10: 0.3},
    12: {6: 0.6, 25: 0.6, 10: 0.3},
    6: {7: 0.5, 10: 0.4},
    10: {25: 0.6},
}
"""Chance that an event of an AU comes with one of another, more frequent AU at about the same time."""

EXCLUDES: dict[int, tuple[int, ...]] = {10: (24,), 12: (15,), 25: (23, 24), 26: (23, 24)}
"""An AU gives way to those that pull against it: lips cannot part while they are pressed together."""


def _curve(times: Floats, start: float, onset: float, hold: float, offset: float, apex: float) -> Floats:
    """Intensity of one event at the times (n,) in seconds: onset, apex, offset; ramps are raised cosines."""
    rise = np.clip((times - start) / onset, 0, 1)
    fall = np.clip((start + onset + hold + offset - times) / offset, 0, 1)
    return np.asarray(
        apex * (0.5 - 0.5 * np.cos(np.pi * rise)) * (0.5 - 0.5 * np.cos(np.pi * fall)), np.float32
    )


def plan_intensities(people: int, frames: int, stride: int, rng: np.random.Generator) -> Floats:
    """Intensities of a whole split.

    Args:
        people: number of people, each seen for ``frames`` kept frames.
        frames: kept frames of each.
        stride: simulated frames, at FRAMES_PER_SECOND, from one kept frame to the next.
        rng: draws everything.

    Returns:
        (people, frames, 12) in [0, 1], columns as facs.AFFWILD2. AU26 never exceeds AU25.
    """
    aus = facs.AFFWILD2
    column = {au: i for i, au in enumerate(aus)}
    times = np.arange(frames, dtype=np.float32) * np.float32(stride / FRAMES_PER_SECOND)
    length = float(frames * stride / FRAMES_PER_SECOND)
    # How prone each person is to each AU: a few show one much, most show it little.
    proneness = rng.gamma(1.5, size=(people, len(aus))) + 0.1
    proneness /= proneness.sum(axis=0)
    intensity = np.zeros((people, frames, len(aus)), np.float32)
    positives = dict.fromkeys(aus, 0)

    def add(person: int, au: int, start: float, apex: float, hold: float) -> None:
        curve = _curve(times, start, rng.uniform(*ONSET_SECONDS), hold, rng.uniform(*OFFSET_SECONDS), apex)
        for other in EXCLUDES.get(au, ()):
            curve = curve * np.clip(1 - 4 * intensity[person, :, column[other]], 0, 1)
        own = intensity[person, :, column[au]]
        before = int((own >= LABEL_THRESHOLD).sum())
        np.maximum(own, curve, out=own)
        positives[au] += int((own >= LABEL_THRESHOLD).sum()) - before
        if au == 26:
            add(person, 25, start, min(apex + 0.05, 1.0), hold)
            lips = intensity[person, :, column[25]]
            np.maximum(lips, own, out=lips)

    for au in sorted(aus, key=RATES.__getitem__):
        for weak in np.flatnonzero(rng.random(people) < WEAK_EVENTS_PER_SECOND * length):
            add(
                int(weak),
                au,
                rng.uniform(-0.5, length),
                rng.uniform(*WEAK_APEX),
                rng.uniform(*HOLD_SECONDS[au]),
            )
        target = RATES[au] * people * frames
        tries = 0
        while positives[au] < target - 0.5 and tries < 100 * people:
            tries += 1
            chosen = int(rng.choice(people, p=proneness[:, column[au]]))
            hold = rng.uniform(*HOLD_SECONDS[au])
            start, apex = rng.uniform(-0.5 * hold, length - 0.3), rng.uniform(*APEX)
            add(chosen, au, start, apex, hold)
            for other, chance in COMPANIONS.get(au, {}).items():
                if rng.random() < chance and positives[other] < RATES[other] * people * frames:
                    add(chosen, other, start + rng.normal(0, 0.15), rng.uniform(*APEX), hold)
    lips, jaw = intensity[:, :, column[25]], intensity[:, :, column[26]]
    np.minimum(jaw, lips, out=jaw)
    return intensity


def make_poses(intensity: Floats, stride: int, rng: np.random.Generator) -> list[Pose]:
    """One person's frames.

    Args:
        intensity: (frames, 12).
        stride: simulated frames from one kept frame to the next.
        rng: draws pose, gaze, blinks, asymmetry and distractors.
    """
    frames = len(intensity)
    times = np.arange(frames) * stride / FRAMES_PER_SECOND
    turn = np.stack([_drift(rng, times, spread) for spread in TURN_SPREAD], axis=1)
    turn = np.clip(turn, np.negative(TURN_LIMIT), TURN_LIMIT)
    gaze = np.stack([_drift(rng, times, spread) for spread in GAZE_SPREAD], axis=1)
    gaze[:, 0] -= 0.4 * turn[:, 0]  # eyes stay with what the head turns from
    gaze = np.clip(gaze, np.negative(GAZE_LIMIT), GAZE_LIMIT)
    blinks = np.where(rng.random(frames) < BLINK_CHANCE, rng.uniform(0.5, 1.0, frames), 0.0)
    skew = float(np.exp(rng.normal(0, 0.10)))
    others: list[dict[str, float]] = [{"eyeBlink": float(b)} if b else {} for b in blinks]
    for name, (low, high) in DISTRACTORS.items():
        if rng.random() < DISTRACTIONS_PER_SECOND * times[-1]:
            curve = _curve(
                times.astype(np.float32), rng.uniform(-0.5, times[-1]), 0.3, rng.uniform(0.3, 1.5), 0.4,
                rng.uniform(low, high),
            )  # fmt: skip
            for other, value in zip(others, curve, strict=True):
                if value > 0:
                    other[name] = float(value)
    return [
        Pose(
            intensity={au: float(x) for au, x in zip(facs.AFFWILD2, row, strict=True)},
            others=other,
            left_over_right=skew,
            turn=(float(t[0]), float(t[1]), float(t[2])),
            gaze=(float(g[0]), float(g[1])),
        )
        for row, other, t, g in zip(intensity, others, turn, gaze, strict=True)
    ]


def _drift(
    rng: np.random.Generator, times: npt.NDArray[np.float64], spread: float
) -> npt.NDArray[np.float64]:
    """An angle that wanders: a resting value and two slow waves, of the given spread (radians) in all."""
    value = np.full(len(times), rng.normal(0, 0.7 * spread))
    for period in rng.uniform(2.0, 8.0, size=2):
        value += rng.normal(0, 0.5 * spread) * np.sin(2 * np.pi * (times / period + rng.random()))
    return value
