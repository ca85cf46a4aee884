"""How each Action Unit moves and folds the face: the one place where FACS meets the mesh.

| AU | FACS: what is seen (Ekman, Friesen and Hager, 2002)               | facial actions                 |
|----|-------------------------------------------------------------------|--------------------------------|
| 1  | inner brows pulled up, wrinkles in the middle of the forehead      | browInnerUp                    |
| 2  | outer brows pulled up, arched wrinkles above them                  | browOuterUp                    |
| 4  | brows lowered and drawn together, vertical furrows between them    | browDown                       |
| 6  | cheeks lifted, eyes narrowed from below, crow's feet, lid furrow   | cheekSquint, eyeSquint         |
| 7  | lids tightened, eye opening narrowed, lower lid straightened       | eyeSquint, eyeBlink            |
| 10 | upper lip raised in the middle, nasolabial furrow deepened above   | mouthUpperUp, noseSneer        |
| 12 | lip corners pulled up and out, nasolabial furrow deepened          | mouthSmile                     |
| 15 | lip corners pulled down, chin skin pouched                         | mouthFrown, mouthShrugLower    |
| 23 | lips tightened and rolled in, the red narrowed, fine lines around  | mouthRoll..., mouthPucker      |
| 24 | lips pressed together and flattened, chin pushed up, bulges around | mouthPress, mouthShrugLower... |
| 25 | lips part, teeth may show                                          | mouthLowerDown, mouthUpperUp   |
| 26 | jaw relaxed and dropped, teeth apart (so lips part: AU25)          | jawOpen                        |

Furrows are grooves in the skin's height map; their lines are below, in centimetres from between the eyes.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from aunet.data.rendered.head import Floats, Head
from aunet.data.rendered.shading import TEXEL, TEXTURE_LEFT, TEXTURE_SIZE, TEXTURE_TOP

AU_ACTIONS: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.5},
    2: {"browOuterUp": 1.5},
    4: {"browDown": 1.4},
    6: {"cheekSquint": 1.5, "eyeSquint": 0.35},
    7: {"eyeSquint": 1.0, "eyeBlink": 0.07},
    10: {"mouthUpperUp": 1.1, "noseSneer": 0.12},
    12: {"mouthSmile": 1.0},
    15: {"mouthFrown": 1.2, "mouthShrugLower": 0.3},
    23: {"mouthRollUpper": 1.0, "mouthRollLower": 1.0, "mouthPucker": 0.12},
    24: {
        "mouthPress": 0.75,
        "mouthFrown": 0.3,
        "mouthPucker": 0.2,
        "mouthRollUpper": 0.3,
        "mouthShrugLower": 0.55,
    },
    25: {"mouthLowerDown": 0.8, "mouthUpperUp": 0.15, "jawOpen": 0.05},
    26: {"jawOpen": 0.55},
}
"""Weights of the facial actions that an AU at full intensity (1.0) makes, on both sides."""

DISTRACTORS: dict[str, tuple[float, float]] = {
    "cheekPuff": (0.3, 0.8),
    "mouthPucker": (0.3, 0.8),
    "mouthFunnel": (0.2, 0.6),
    "noseSneer": (0.2, 0.5),
    "jawLeft": (0.2, 0.7),
    "jawRight": (0.2, 0.7),
    "jawForward": (0.3, 0.8),
    "mouthLeft": (0.2, 0.6),
    "mouthRight": (0.2, 0.6),
    "mouthDimple": (0.3, 0.9),
    "mouthStretch": (0.2, 0.6),
    "eyeWide": (0.3, 0.9),
    "mouthShrugLower": (0.3, 0.8),
}
"""Facial actions that no labelled AU stands for, and the range of their strength at the apex."""

Line = tuple[tuple[float, float], ...]

GROOVES: dict[int, tuple[tuple[float, float, tuple[Line, ...]], ...]] = {
    1: ((0.55, 0.22, (((-2.6, 4.0), (-1.2, 4.35), (0, 4.25), (1.2, 4.35), (2.6, 4.0)),)),
        (0.45, 0.2, (((-2.3, 5.0), (-1.1, 5.25), (0, 5.2), (1.1, 5.25), (2.3, 5.0)),))),
    2: ((0.45, 0.2, (((2.4, 3.9), (3.2, 4.15), (4.1, 4.1), (5.2, 3.6)),)),
        (0.35, 0.2, (((2.5, 4.8), (3.3, 5.05), (4.1, 5.0), (5.0, 4.6)),))),
    4: ((0.8, 0.18, (((0.72, 1.0), (0.85, 1.9), (0.75, 2.7)),)), (0.5, 0.16, (((-0.7, 0.5), (0.7, 0.5)),))),
    6: ((0.5, 0.15, (((5.2, 0.35), (6.5, 1.1)), ((5.3, 0.0), (6.8, 0.1)), ((5.2, -0.4), (6.4, -0.9)))),
        (0.7, 0.25, (((1.7, -1.2), (2.8, -1.75), (4.2, -1.6), (5.2, -0.9)),))),
    7: ((0.4, 0.13, (((1.9, -0.8), (3.2, -1.05), (4.5, -0.7)),)),),
    10: ((0.85, 0.3, (((1.65, -2.7), (2.0, -3.5), (2.5, -4.5)),)),),
    12: ((0.85, 0.3, (((1.95, -3.6), (2.7, -4.6), (3.25, -5.6), (3.4, -6.3)),)),),
    15: ((0.55, 0.26, (((2.35, -7.0), (2.6, -7.5), (2.7, -8.1)),)),
         (0.35, 0.3, (((-1.0, -8.55), (0.0, -8.35), (1.0, -8.55)),))),
    23: ((0.15, 0.12, tuple(((u, -5.1), (u * 0.9, -5.7)) for u in (0.5, 1.0, 1.5))),),
    24: ((0.7, 0.28, (((-1.5, -7.95), (0.0, -8.15), (1.5, -7.95)),)),
         (0.6, 0.2, (((2.5, -6.1), (2.65, -7.1)),))),
}  # fmt: skip
"""Furrows of each AU: (depth in mm, half-width in cm, polylines of (across, up) in cm, on both sides)."""


def action_weights(head: Head, strengths: Mapping[str, float], left_over_right: float = 1.0) -> Floats:
    """Weights of the mesh's facial actions.

    Args:
        head: the mesh.
        strengths: weight by name; a name without Left or Right, such as "mouthSmile", stands for both sides.
        left_over_right: asymmetry; the left side is as much stronger.

    Returns:
        (52,) weights in the order of ``head.actions``.
    """
    weights = np.zeros(len(head.actions), np.float32)
    names = _action_index(tuple(head.actions))
    gain = np.sqrt(left_over_right)
    for name, strength in strengths.items():
        if name in names:
            weights[names[name]] += strength
        else:
            weights[names[name + "Left"]] += strength * gain
            weights[names[name + "Right"]] += strength / gain
    return weights


@functools.cache
def _action_index(names: tuple[str, ...]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def surface_grid() -> tuple[Floats, Floats]:
    """Surface coordinates of the texels in centimetres: across (1, TEXTURE_SIZE) and up (TEXTURE_SIZE, 1)."""
    along = (np.arange(TEXTURE_SIZE, dtype=np.float32) + 0.5) * TEXEL
    return (TEXTURE_LEFT + along[None]) * 100, (TEXTURE_TOP - along[:, None]) * 100


def groove(line: Line, half_width: float) -> Floats:
    """Profile of a furrow along a polyline: -1 in the middle, a rim of about +0.3 on either side.

    Args:
        line: points (across, up) in centimetres.
        half_width: in centimetres.

    Returns:
        (TEXTURE_SIZE, TEXTURE_SIZE).
    """
    across, up = surface_grid()
    nearest = np.full((TEXTURE_SIZE, TEXTURE_SIZE), np.inf, np.float32)
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((across - x0) * dx + (up - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, np.hypot(across - x0 - t * dx, up - y0 - t * dy))
    d = nearest / half_width
    return np.asarray(-np.exp(-(d**2)) + 0.35 * np.exp(-((d - 1.9) ** 2)), np.float32)


@functools.cache
def groove_maps() -> dict[int, tuple[slice, slice, Floats]]:
    """Per AU with furrows, the part of the texture that they cover and their height there in metres."""
    maps: dict[int, tuple[slice, slice, Floats]] = {}
    for au, sets in GROOVES.items():
        height = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
        for depth, half_width, lines in sets:
            for line in _mirrored(lines):
                height = np.where(
                    np.abs(g := groove(line, half_width) * depth * 1e-3) > np.abs(height), g, height
                )
        if not height.any():
            continue
        rows, columns = np.nonzero(np.abs(height) > 1e-5)
        part = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        maps[au] = (*part, np.ascontiguousarray(height[part]))
    return maps


def _mirrored(lines: Iterable[Line]) -> Iterable[Line]:
    for line in lines:
        yield line
        if line[0][0] != -line[-1][0]:
            yield tuple((-x, y) for x, y in line)
