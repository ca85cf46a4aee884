"""From a scene back to its faces: are they found, who is who, and what does that cost in F1?

``python experiments/predict_check.py RUN``. RUN is a run on rendered faces. Two people whom it has not seen
move through each scene (``scenes.py``); the scene becomes a video, goes through ``aunet.load(RUN).predict``,
and is compared with the aligned crops of the same faces, as the rendered data set would hold them. Beside the
figures it leaves a picture to look at: a frame of each scene with what was found, and below it the original
crops and those that were cut out.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scenes import FPS, STRIDE, SceneFrame, two_people
from videos import write_video

import aunet
from aunet.data.rendered import behaviour
from aunet.facs import CROP_SIZE
from aunet.metrics import confusion_counts, f1_per_au
from aunet.predict import Columns, Options, Predictor, align
from aunet.predict.rows import POINTS

NEAR = 0.5
"""Of the distance between the eyes, how far a face may be from where it is and still be this one."""


@dataclass
class Found:
    """What was found of all scenes.

    Attributes:
        probs: Of each face that is there, (num_aus,), or None where it was not found.
        extra: Faces that are not there.
        shift: Pixels by which the crop's corners are off those of the original crop, the most of each face.
        numbers: Of each person, the numbers that it was given, in order.
    """

    probs: list[npt.NDArray[np.float64] | None] = field(default_factory=list)
    extra: int = 0
    shift: list[float] = field(default_factory=list)
    numbers: list[list[int]] = field(default_factory=list)


def main() -> None:
    """Renders, predicts, compares; prints the figures and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of a run on rendered faces")
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--frames", type=int, default=48, help="of each scene")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 5], help="values of --detect-every")
    parser.add_argument("--out", type=Path, default=Path("runs/predict_check.json"))
    options = parser.parse_args()
    figures, sheet = check(aunet.load(options.run), options.scenes, options.frames, options.every)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out.with_suffix(".jpg"), quality=90)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    for name, value in figures.items():
        print(f"{name}: {value}")


def check(
    predictor: Predictor, scenes: int, frames: int, everies: Sequence[int]
) -> tuple[dict[str, float], Image.Image]:
    """The figures, by name, and the picture."""
    rng = np.random.default_rng(11)
    intensities = behaviour.plan_intensities(2 * scenes, frames, STRIDE, rng)
    labels, crops, shown = [], [], []
    found = {every: Found() for every in everies}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(scenes):
            seen = list(two_people(seed, frames, intensities[2 * seed : 2 * seed + 2]))
            video = write_video(Path(folder) / "scene.mp4", (one.pixels for one in seen), fps=FPS, crf="20")
            for every in everies:
                table = predictor.predict(video, Options(detect_every=every))
                compare(table, seen, found[every])
            shown.append(drawn(table, frames // 2, seen[frames // 2]))
            for person in range(2):
                film = (one.crops[person] for one in seen)
                file = write_video(Path(folder) / "crops.mkv", film, codec="ffv1")
                crops.append(probs_of(predictor.predict(file, Options(crops=True))))
                labels.append(np.stack([one.labels[person] for one in seen]))
            figures = summary(np.concatenate(labels), np.concatenate(crops), found)
            print(f"scene {seed + 1} of {scenes}: {figures}", flush=True)
    return figures, Image.fromarray(np.vstack(shown))


def summary(
    truth: npt.NDArray[np.int8], crops: npt.NDArray[np.float64], found: Mapping[int, Found]
) -> dict[str, float]:
    """The figures, by name, of all faces up to here: labels, probabilities of the crops, what was found."""
    of_crops = macro_f1(crops, truth)
    figures = {"faces": len(truth), "f1_of_crops": round(of_crops, 4)}
    for every, what in found.items():
        known = [probs is not None for probs in what.probs]
        probs = np.array([np.zeros(truth.shape[1]) if one is None else one for one in what.probs])
        figures |= {
            f"every_{every}/found": round(float(np.mean(known)), 4),
            f"every_{every}/extra_faces": what.extra,
            f"every_{every}/people_with_one_number": sum(len(set(given)) == 1 for given in what.numbers),
            f"every_{every}/swaps": swaps(what.numbers),
            f"every_{every}/corner_shift_px": round(float(np.median(what.shift)), 2),
            f"every_{every}/f1": round(macro_f1(probs, truth), 4),
            f"every_{every}/f1_minus_crops": round(macro_f1(probs, truth) - of_crops, 4),
        }
    return figures


def compare(table: Columns, seen: Sequence[SceneFrame], found: Found) -> None:
    """Adds a scene's faces, in the order of people and then of frames."""
    points = points_of(table)
    probs = probs_of(table)
    rows = [np.flatnonzero((table["frame"] == k + 1) & (table["face"] >= 0)) for k in range(len(seen))]
    used = 0
    for person in range(2):
        numbers = []
        for one, candidates in zip(seen, rows, strict=True):
            marks = one.landmarks[person]
            apart = np.linalg.norm(points[candidates].mean(1) - marks.mean(0), axis=1)
            near = NEAR * np.linalg.norm(marks[1] - marks[0])
            if not len(candidates) or apart.min() > near:
                found.probs.append(None)
                continue
            row = candidates[apart.argmin()]
            used += 1
            numbers.append(int(table["face"][row]))
            found.probs.append(probs[row])
            found.shift.append(shift(points[row], one.placed[person]))
        found.numbers.append(numbers)
    found.extra += sum(map(len, rows)) - used


def drawn(table: Columns, k: int, one: SceneFrame) -> npt.NDArray[np.uint8]:
    """Frame ``k`` with boxes, numbers and points; below it, the original crops and those of the faces found."""
    picture = Image.fromarray(one.pixels)
    draw = ImageDraw.Draw(picture)
    rows = np.flatnonzero((table["frame"] == k + 1) & (table["face"] >= 0))
    points = points_of(table)[rows]
    for row, marks in zip(rows, points, strict=True):
        box = [float(table[f"face_{side}"][row]) for side in ("x0", "y0", "x1", "y1")]
        draw.rectangle(box, outline="red")
        draw.text(box[:2], str(table["face"][row]), fill="red", anchor="lb")
        for x, y in marks.tolist():
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill="lime")
    cut = align.crops(one.pixels, points, CROP_SIZE).permute(0, 2, 3, 1).numpy()
    strip = np.concatenate([*one.crops, *cut], axis=1)[:, : picture.width]
    return np.vstack([picture, np.pad(strip, ((0, 0), (0, picture.width - strip.shape[1]), (0, 0)))])


def shift(points: npt.NDArray[np.floating], placed: npt.NDArray[np.float64]) -> float:
    """Pixels by which the corners of the crop that points give are off those of the original one."""
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * float(CROP_SIZE)
    there = corners @ placed[:, :2].T + placed[:, 2]
    matrix = align.similarity(points[None], align.template())[0]
    return float(np.linalg.norm(there @ matrix[:, :2].T + matrix[:, 2] - corners, axis=1).max())


def swaps(numbers: Sequence[Sequence[int]]) -> int:
    """How often a number goes over to the other person of a scene."""
    return sum(len(set(numbers[k]) & set(numbers[k + 1])) for k in range(0, len(numbers), 2))


def points_of(table: Columns) -> npt.NDArray[np.floating]:
    """(n, 5, 2) points of a table."""
    return np.stack([np.stack([table[f"{name}_{axis}"] for axis in "xy"], 1) for name in POINTS], 1)


def probs_of(table: Columns) -> npt.NDArray[np.float64]:
    """(n, num_aus) probabilities of a table."""
    return np.stack([values for name, values in table.items() if name.endswith("_prob")], 1).astype(float)


def macro_f1(probs: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> float:
    """Macro F1 of pooled frames."""
    return float(f1_per_au(confusion_counts(probs, labels)).mean())


if __name__ == "__main__":
    main()
