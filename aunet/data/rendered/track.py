"""One person in one video: the unit of rendering, and the files that it becomes."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from aunet import facs
from aunet.data.rendered.head import Floats

SPLITS = {"train": "Train_Set", "val": "Validation_Set", "test": ""}
CROPS = "cropped_aligned"
ANNOTATIONS = "Third ABAW Annotations/AU_Detection_Challenge"
TRUTH = "truth"
PARTIAL = ".partial"

TWO_PEOPLE_EVERY, UNLABELLED_EVERY, MISSING_EVERY = 10, 9, 7
"""Every so many videos one shows two people; every so many people one has a stretch of -1 rows, or a frame
without a crop."""
Landmarks = Literal["moving", "resting"]
"""Whose points align a crop: those of the face as it moves, which a detector finds, or of the face at rest.

Moving mouth corners shift and scale the whole crop, so that an AU of the mouth can be told from eyes and
hair, too. So it is in real data sets, and a network that is to see what a detector cuts out has to know it.
Points at rest are for questions about where in the crop a network looks."""

RESOLUTIONS = ("1280x720", "640x360", "1920x1080", "864x480")


@dataclass(frozen=True)
class Track:
    """One person in one video: a crop folder, an annotation file, a truth file.

    Attributes:
        split: "train", "val" or "test".
        video: position of its video in the split, from 0.
        seat: 0, or 1 for the second person of a video.
        number: position among the people of the split, from 0.
        name: of its folder and files, such as "7-60-1280x720_left".
    """

    split: str
    video: int
    seat: int
    number: int
    name: str

    @property
    def subject(self) -> str:
        """Name of the person, different for every track."""
        return f"{self.split}-{self.number:05d}"


def tracks(split: str, videos: int) -> list[Track]:
    """The people of a split, in order."""
    result: list[Track] = []
    order = list(SPLITS).index(split) + 1
    for video in range(videos):
        # Names in the two styles of Aff-Wild2; the first number tells the split, so names never collide.
        style = (
            f"video{order}{video:04d}"
            if video % 3 == 0
            else f"{order}{video:04d}-30-{RESOLUTIONS[video % 4]}"
        )
        two = video % TWO_PEOPLE_EVERY == TWO_PEOPLE_EVERY // 2
        for seat, suffix in enumerate(("_left", "_right") if two else ("",)):
            result.append(Track(split, video, seat, len(result), style + suffix))
    return result


@functools.lru_cache(maxsize=3)
def split_intensities(split: str, videos: int, frames: int, stride: int, seed: int) -> Floats:
    """Intensities (people, frames, 12) of a split, the same in every process."""
    from aunet.data.rendered.behaviour import plan_intensities

    key = [seed, list(SPLITS).index(split), 0]
    return plan_intensities(len(tracks(split, videos)), frames, stride, np.random.default_rng(key))


@contextmanager
def replacing(path: Path, work: Path) -> Iterator[Path]:
    """Give a path in the folder ``work`` to write to; move it to ``path`` when all went well."""
    draft = work.with_name(work.name + "-" + path.name)
    yield draft
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(path)


def render_track(
    root: Path,
    track: Track,
    videos: int,
    frames: int,
    stride: int,
    seed: int,
    landmarks: Landmarks,
    landmark_noise: float,
) -> None:
    """Render one track into ``root``; the arguments are those of ``aunet.data.rendered.render``.

    Its crop folder appears last, by rename, and marks it as finished.
    """
    from aunet.data.rendered import behaviour, camera, people, scene
    from aunet.data.rendered.head import load_head, stacked_actions

    key = [seed, list(SPLITS).index(track.split)]
    head = load_head()
    setting = scene.make_setting(np.random.default_rng([*key, 1, track.video]))
    rng = np.random.default_rng([*key, 2, track.number])
    person = people.make_person(head, rng)
    intensity = split_intensities(track.split, videos, frames, stride, seed)[track.number]
    poses = behaviour.make_poses(intensity, stride, rng)

    labels = (intensity >= behaviour.LABEL_THRESHOLD).astype(int)
    if track.number % UNLABELLED_EVERY == 4:
        start = int(rng.integers(frames))
        labels[start : start + 2] = -1
    missing = int(rng.integers(frames)) if track.number % MISSING_EVERY == 3 and frames > 1 else -1

    work = root / PARTIAL / f"{track.name}-{os.getpid()}"
    work.mkdir(parents=True)
    regions, marks = [], []
    for k, pose in enumerate(poses):
        frame_rng = np.random.default_rng([*key, 3, track.number, k])
        noise = frame_rng.normal(0, landmark_noise, (5, 2)).astype(np.float32)
        picture = scene.render_frame(head, stacked_actions(), person, setting, pose, landmarks, noise)
        regions.append(picture.regions)
        marks.append(picture.landmarks)
        crop = camera.expose(picture.linear, setting, frame_rng)
        if k != missing:
            (work / f"{k + 1:05d}.jpg").write_bytes(camera.encode(crop, setting.quality))

    with replacing(root / TRUTH / f"{track.name}.npz", work) as path, path.open("wb") as file:
        np.savez_compressed(
            file,
            aus=np.array(facs.AFFWILD2),
            intensity=intensity,
            regions=np.stack(regions),
            landmarks=np.stack(marks),
            turn_rad=np.array([pose.turn for pose in poses], np.float32),
            gaze_rad=np.array([pose.gaze for pose in poses], np.float32),
            identity=np.array(list(person.description.values()), np.float32),
            identity_names=np.array(list(person.description)),
        )
    if track.split != "test":
        rows = [",".join(facs.au_column(au) for au in facs.AFFWILD2)] + [
            ",".join(map(str, row)) for row in labels
        ]
        with replacing(root / ANNOTATIONS / SPLITS[track.split] / f"{track.name}.txt", work) as path:
            path.write_text("\n".join(rows) + "\n")
    (root / CROPS).mkdir(exist_ok=True)
    work.rename(root / CROPS / track.name)
