"""Rendered people who move through a larger picture, with the aligned crops that a data set would hold.

Face and crop are the same pixels, with the same noise, JPEG and finger in front of them: what differs between
their predictions comes from video, detection and alignment alone.

A helper of ``predict_check.py`` and of the tests.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from aunet.data.rendered import behaviour, camera, scene
from aunet.data.rendered.dataset import LANDMARK_NOISE
from aunet.data.rendered.head import load_head, stacked_actions
from aunet.data.rendered.people import make_person
from aunet.data.rendered.track import Landmarks
from aunet.data.rendered.view import five_points
from aunet.facs import CROP_SIZE
from aunet.predict.align import similarity, template

MARGIN = 48
"""Pixels of the crop that are rendered around it, hair, ears and neck; whole blocks of its JPEG."""
SIDE = CROP_SIZE + 2 * MARGIN
WIDTH, HEIGHT = 720, 400
FPS = 15
STRIDE = round(behaviour.FRAMES_PER_SECOND / FPS)


@dataclass(frozen=True)
class SceneFrame:
    """A frame with p people.

    Attributes:
        pixels: (HEIGHT, WIDTH, 3) RGB.
        crops: (p, 112, 112, 3), the aligned crops of the same faces, as the rendered data set has them.
        labels: (p, 12) occurrence of facs.AFFWILD2.
        placed: (p, 2, 3) from each crop to the picture.
        landmarks: (p, 5, 2) that align the crops, in pixels of the picture.
    """

    pixels: npt.NDArray[np.uint8]
    crops: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int8]
    placed: npt.NDArray[np.float64]
    landmarks: npt.NDArray[np.float64]


def two_people(
    seed: int,
    frames: int,
    intensities: npt.NDArray[np.float32] | None = None,
    landmarks: Landmarks = "moving",
    landmark_noise: float = LANDMARK_NOISE,
) -> Iterator[SceneFrame]:
    """A scene in which two people move, change size and tilt; in every other one they change sides.

    Heads move smoothly; crops shake against them as those of the data set do.

    Args:
        seed: Draws people, light, behaviour and ways.
        frames: Length, at FPS.
        intensities: (2, frames, 12) of the AUs; drawn if None.
        landmarks: Whose points align the crops, as ``aunet.data.rendered.render`` takes it.
        landmark_noise: Of these points, likewise.
    """
    rng = np.random.default_rng([7, seed])
    head, actions = load_head(), stacked_actions()
    setting = scene.make_setting(rng)
    people = [make_person(head, rng) for _ in range(2)]
    if intensities is None:
        intensities = behaviour.plan_intensities(2, frames, STRIDE, rng)
    poses = [behaviour.make_poses(one, STRIDE, rng) for one in intensities]
    places = _ways(rng, frames, crossing=bool(seed % 2))
    border = MARGIN * scene.SUPERSAMPLE
    wide = replace(
        setting,
        background=np.pad(setting.background, ((border, border), (border, border), (0, 0)), "reflect"),
    )
    wall = Image.fromarray(camera.to_srgb(setting.background).astype(np.uint8)).resize((WIDTH, HEIGHT))
    for k in range(frames):
        picture = np.asarray(wall, np.float32)
        crops, placed, marks = [], [], []
        for p in range(2):
            noise = rng.normal(0, landmark_noise, (5, 2)).astype(np.float32)
            seen = scene.render_frame(head, actions, people[p], wide, poses[p][k], landmarks, noise, MARGIN)
            head_shot = simplejpeg.decode_jpeg(
                camera.encode(camera.expose(seen.linear, setting, rng), setting.quality)
            )
            crops.append(head_shot[MARGIN:-MARGIN, MARGIN:-MARGIN])
            at_rest = seen.view.pixels(seen.view.turned(five_points(head, people[p].vertices))) - MARGIN
            steady = similarity(at_rest[None], template())[0]
            placed.append(places[k, p] @ np.vstack([steady, (0, 0, 1)]))
            marks.append(_moved(placed[p], seen.landmarks))
            picture = _with_head(picture, head_shot, placed[p])
        yield SceneFrame(
            np.clip(np.rint(picture), 0, 255).astype(np.uint8),
            np.stack(crops),
            (intensities[:, k] >= behaviour.LABEL_THRESHOLD).astype(np.int8),
            np.stack(placed),
            np.stack(marks),
        )


def _ways(rng: np.random.Generator, frames: int, crossing: bool) -> npt.NDArray[np.float64]:
    """(frames, 2, 2, 3) from a crop that is aligned on each face at rest, without noise, to the picture."""
    t = np.arange(frames) / FPS
    out = np.empty((frames, 2, 2, 3))
    for p in range(2):
        wave = [
            sum(np.sin(2 * np.pi * (t / period + rng.random())) for period in rng.uniform(3, 9, 2)) / 2
            for _ in range(4)
        ]
        scale = 1.25 + 0.2 * wave[0]
        turn = 0.15 * wave[1]
        if crossing:  # one above the other
            way = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, frames))
            x = 180 + 360 * (way if p == 0 else 1 - way) + 20 * wave[2]
            y = (105 if p == 0 else 295) + 10 * wave[3]
            scale = 1.05 + 0.1 * wave[0]
        else:
            x = (190 if p == 0 else 530) + 60 * wave[2]
            y = 200 + 50 * wave[3]
        a, b = scale * np.cos(turn), scale * np.sin(turn)
        half = CROP_SIZE / 2
        out[:, p] = np.stack(
            [np.stack([a, -b, x - (a - b) * half], 1), np.stack([b, a, y - (b + a) * half], 1)], 1
        )
    return out


def _moved(matrix: npt.NDArray[np.float64], points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _with_head(
    picture: npt.NDArray[np.float32], head_shot: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The picture with a head in it, whose soft outline is an ellipse."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    cover = np.clip((1 - np.hypot(x / 68, y / 94)) * 6, 0, 1) * 255
    layers = Image.fromarray(np.dstack([head_shot, cover.round().astype(np.uint8)]), "RGBA")
    # From the picture to the head shot, which begins at the margin. Pillow too has centres of pixels at .5.
    back = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    back[:, 2] += MARGIN
    placed = layers.transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, back.ravel().tolist(), Image.Resampling.BICUBIC
    )
    values = np.asarray(placed, np.float32)
    alpha = values[..., 3:] / 255
    return picture * (1 - alpha) + values[..., :3] * alpha
