"""One frame: a person, what the face does, pose, light and camera in; an aligned crop and the truth out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from aunet import facs
from aunet.data.rendered import raster, shading
from aunet.data.rendered.actions import AU_ACTIONS, action_weights, groove_maps
from aunet.data.rendered.head import Floats, Head
from aunet.data.rendered.people import Person
from aunet.data.rendered.skin import linear, smooth_noise
from aunet.data.rendered.track import Landmarks
from aunet.data.rendered.view import HAIR_PATH, View, aligned_view, glasses_path

SUPERSAMPLE = 2
"""Pixels rendered along each pixel of the crop; ``shading.halve`` averages them."""
SIDE = facs.CROP_SIZE * SUPERSAMPLE
REGION_CELLS = 28
"""Side of the truth's maps of where an AU moved the face, in cells of 4 x 4 pixels of the crop."""
REGION_UNIT = 1e-4
"""Metres of movement for each step of the truth's uint8 maps."""
PARTED = 0.005
"""Metres between the lips at which the inside of the mouth gets the full light."""
DARKEST_MOUTH = 0.04
"""Share of that light that closed lips let in."""
MOST_ACTION = 1.6
"""Limit of a facial action's weight where several AUs add up."""
BACKGROUND_SIDE = SIDE + 80


@dataclass(frozen=True)
class Setting:
    """What stays the same in a video: light, camera and background.

    Attributes:
        light: direction and colours of the light; what depends on the person is filled in for each frame.
        distance: camera to head in metres.
        background: (BACKGROUND_SIDE, BACKGROUND_SIDE, 3) linear light.
        blur: standard deviation of the defocus in pixels of the crop.
        noise: standard deviation of the sensor's noise, of 255.
        quality: JPEG quality.
    """

    light: shading.Light
    distance: float
    background: Floats
    blur: float
    noise: float
    quality: int


@dataclass(frozen=True)
class Pose:
    """What a frame shows. Angles in radians, positive to the person's left and up.

    Attributes:
        intensity: AU number to intensity in [0, 1].
        others: strength of facial actions that belong to no labelled AU, blinks among them.
        left_over_right: asymmetry of the expression.
        turn: yaw, pitch, roll of the head.
        gaze: yaw, pitch of the eyes against the head.
    """

    intensity: dict[int, float]
    others: dict[str, float]
    left_over_right: float = 1.0
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gaze: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Picture:
    """A rendered frame.

    Attributes:
        linear: (SIDE, SIDE, 3) linear light, SUPERSAMPLE times the crop's resolution, before lens and sensor;
            larger by the margin on each side.
        landmarks: (5, 2) x, y in the crop of the points that were aligned with facs.TEMPLATE.
        view: how the head is seen in ``linear``, but for SUPERSAMPLE.
        regions: (number of AUs, 28, 28) uint8, mean distance by which each AU alone moved what is seen in the
            cell, in units of REGION_UNIT; zero for an AU of zero intensity.
    """

    linear: Floats
    landmarks: Floats
    view: View
    regions: npt.NDArray[np.uint8]


def make_setting(rng: np.random.Generator) -> Setting:
    """Draw the light, camera and background of a video."""
    azimuth, elevation = rng.uniform(-1.1, 1.1), rng.uniform(0.0, 0.9)
    direction = (np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    warmth = rng.uniform(-0.12, 0.12)
    key, above, below = rng.uniform(0.45, 0.95), rng.uniform(0.28, 0.55), rng.uniform(0.12, 0.3)
    grey = rng.uniform(20, 210)
    base = linear(np.clip(grey * (1 + rng.normal(0, 0.11, size=3)), 5, 235))
    relief = smooth_noise(rng, BACKGROUND_SIDE, tuple(rng.integers(2, 14, size=2)))
    tint = smooth_noise(rng, BACKGROUND_SIDE, (3, 3))
    hue = rng.normal(0, 0.10, size=3).astype(np.float32)
    background = np.clip(base * np.exp(0.55 * relief[..., None] + tint[..., None] * hue), 0.003, 1)
    return Setting(
        light=_make_light(
            direction,
            (key * (1 + warmth), key, key * (1 - warmth)),
            (above * (1 - warmth / 2), above, above * (1 + warmth / 2)),  # shadows are of the other colour
            (below * 1.05, below, below * 0.95),
        ),
        distance=float(rng.uniform(0.55, 1.8)),
        background=background.astype(np.float32),
        blur=float(rng.uniform(0.25, 0.9)),
        noise=float(rng.uniform(0.5, 5.0)),
        quality=int(rng.integers(70, 96)),
    )


def studio() -> Setting:
    """A plain setting, without noise: soft light from the upper left, a grey wall."""
    wall = np.broadcast_to(linear((176, 184, 192)), (BACKGROUND_SIDE, BACKGROUND_SIDE, 3))
    light = _make_light((-0.45, 0.45, 0.77), (0.72, 0.70, 0.67), (0.42, 0.43, 0.45), (0.22, 0.21, 0.21))
    return Setting(light, distance=1.2, background=wall, blur=0.3, noise=0.0, quality=95)


def _make_light(*directions_and_colours: Sequence[float]) -> shading.Light:
    direction, key, above, below = ((float(a), float(b), float(c)) for a, b, c in directions_and_colours)
    return shading.Light(direction, key, above, below, 0.0, 0.0, 1.0, 0.0, (0.0, 1.0))


def render_frame(
    head: Head,
    actions: Floats,
    person: Person,
    setting: Setting,
    pose: Pose,
    landmarks: Landmarks,
    landmark_noise: Floats,
    margin: int = 0,
) -> Picture:
    """Render one aligned crop, or more than it.

    Args:
        head: the mesh.
        actions: (52, V, 3) stacked ``head.actions``.
        person: who.
        setting: light and camera.
        pose: what the face does.
        landmarks: whose points align it.
        landmark_noise: (5, 2) pixels of the crop, added to them.
        margin: pixels of the crop by which the picture is larger on each side; the setting's background has
            to be larger by twice as many, times SUPERSAMPLE.
    """
    per_au = {
        au: action_weights(head, AU_ACTIONS[au], pose.left_over_right) * np.float32(intensity)
        for au, intensity in pose.intensity.items()
        if intensity > 0
    }
    weights = sum(per_au.values(), start=action_weights(head, pose.others)) + _gaze_weights(head, pose.gaze)
    face = raster.add_offsets(person.vertices, actions, np.clip(weights, 0, MOST_ACTION).astype(np.float32))

    aligned = face if landmarks == "moving" else person.vertices
    view, marks = aligned_view(head, person, aligned, pose.turn, setting.distance, landmark_noise)
    a, b, tx, ty = view.similarity
    view = replace(view, similarity=(a, b, tx + margin, ty + margin))
    border = margin * SUPERSAMPLE
    side = SIDE + 2 * border
    seen = view.turned(face)
    points = np.concatenate([view.pixels(seen) * SUPERSAMPLE, seen[:, 2:]], axis=1).astype(np.float32)
    index, bary = raster.rasterise(points, head.triangles, head.material, side)
    normals = raster.vertex_normals(seen, head.triangles)

    picture = _backdrop(setting, person, view, pose, side)
    light = _light(head, person, setting, view, face)
    relief = _folded(person, pose)
    shading.shade(picture, index, bary, normals, head.surface, person.texture, relief, person.palette, light)
    if person.glasses is not None:
        *colour, half_width, size = person.glasses
        _stroke(picture, view, view.turned(glasses_path(head, person, size, view)), half_width, colour)

    index, bary = (
        np.ascontiguousarray(map_[border : border + SIDE, border : border + SIDE]) for map_ in (index, bary)
    )
    regions = np.zeros((len(facs.AFFWILD2), REGION_CELLS, REGION_CELLS), np.uint8)
    for i, au in enumerate(facs.AFFWILD2):
        if au in per_au:
            moved = raster.add_offsets(np.zeros_like(face), actions, per_au[au])
            pooled = raster.pool_lengths(moved, index, bary, head.triangles, REGION_CELLS)
            regions[i] = np.clip(np.rint(pooled / REGION_UNIT), 0, 255)
    return Picture(picture, marks, view, regions)


def _folded(person: Person, pose: Pose) -> Floats:
    """The skin's relief with the furrows that the AUs make."""
    height = person.height.copy()
    for au, (rows, columns, folds) in groove_maps().items():
        if intensity := pose.intensity.get(au, 0.0):
            height[rows, columns] += np.float32(intensity * person.wrinkling) * folds
    return height


def _light(head: Head, person: Person, setting: Setting, view: View, face: Floats) -> shading.Light:
    """The setting's light on this face, and how far its mouth lets it in."""
    upper, lower = head.lips
    moved = (face - person.vertices)[:, 1]
    openness = float(np.clip((moved[upper] - moved[lower]) / PARTED, DARKEST_MOUTH, 1))
    up = view.rotation[:2, 1] / np.hypot(*view.rotation[:2, 1])
    return setting.light._replace(
        gloss=person.gloss[0],
        lip_gloss=person.gloss[1],
        exponent=person.gloss[2],
        openness=openness,
        up=(float(up[0]), float(up[1])),
    )


def _backdrop(setting: Setting, person: Person, view: View, pose: Pose, side: int) -> Floats:
    """What is behind the face: the part of the background that the head's turn brings in, and long hair."""
    margin = BACKGROUND_SIDE - SIDE
    down, right = (int(np.clip(margin * (0.5 + t), 0, margin)) for t in (pose.turn[1], -pose.turn[0]))
    picture = setting.background[down : down + side, right : right + side].copy()
    if person.long_hair is not None:
        strands = view.turned(HAIR_PATH + view.origin)
        for half_width, shade in ((0.020, 0.4), (0.013, 0.6), (0.006, 0.75)):
            _stroke(picture, view, strands, half_width, [shade * c for c in person.long_hair])
    return picture


def _stroke(picture: Floats, view: View, turned: Floats, half_width: float, colour: list[float]) -> None:
    """Draw a path in camera space (n, 3) with a pen of a half-width in metres."""
    path = (view.pixels(turned) * SUPERSAMPLE).astype(np.float32)
    radius = np.float32(max(half_width * view.scale * SUPERSAMPLE, 0.8))
    shading.draw_strokes(picture, path, radius, np.array(colour, np.float32))


def _gaze_weights(head: Head, gaze: tuple[float, float]) -> Floats:
    """Weights (52,) of the eyeLook actions, which at full strength turn an eye by about 0.5 rad."""
    yaw, pitch = gaze[0] / 0.5, gaze[1] / 0.5
    return action_weights(
        head,
        {
            "eyeLookOutLeft": max(yaw, 0), "eyeLookInRight": max(yaw, 0),
            "eyeLookInLeft": max(-yaw, 0), "eyeLookOutRight": max(-yaw, 0),
            "eyeLookUp": max(pitch, 0), "eyeLookDown": max(-pitch, 0),
        },
    )  # fmt: skip
