"""From a scene back to its faces: are they found, who is who, and what does that cost in F1?

``python experiments/predict_check.py RUN``. RUN is a run on rendered faces. Two people whom it has not seen
move through each scene (``scenes.py``); the scene becomes a video, goes through ``aunet.load(RUN).predict``,
and is compared with the aligned crops of the same faces, as the run's data set would hold them. Between
the two stand crops that are cut out of the video where the original ones are: what they lose is lost to video
and resampling, the rest to detection and alignment. Intervals are of 95% over the scenes. Beside the figures
it leaves a picture to look at: a frame of each scene with what was found, and below it the original crops and
those that were cut out.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scenes import FPS, STRIDE, SceneFrame, two_people
from videos import write_video

import aunet
from aunet import statistics
from aunet.data.rendered import alignment, behaviour
from aunet.facs import CROP_SIZE
from aunet.files import replacing, write_json
from aunet.metrics import f1_per_au
from aunet.predict import Columns, Options, Predictor, align
from aunet.predict.rows import POINTS
from aunet.predict.video import read_video
from aunet.statistics import Counts, video_counts
from aunet.trained import read_config

NEAR = 0.5
"""Of the distance between the eyes, how far a face may be from where it is and still be this one."""


@dataclass
class Found:
    """What was found of all scenes.

    Attributes:
        probs: Of each face that is there, (num_aus,), or None where it was not found.
        extra: Faces that are not there.
        moved: Of each face that was found, the similarity (2, 3) from the original crop to the one cut out.
        numbers: Of each person, the numbers that it was given, in order.
    """

    probs: list[npt.NDArray[np.float64] | None] = field(default_factory=list)
    extra: int = 0
    moved: list[npt.NDArray[np.float64]] = field(default_factory=list)
    numbers: list[list[int]] = field(default_factory=list)


def main() -> None:
    """Renders, predicts, compares; prints the figures and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of a run on rendered faces")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--frames", type=int, default=24, help="of each scene")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 5], help="values of --detect-every")
    parser.add_argument("--out", type=Path, default=Path("runs/predict_check.json"))
    options = parser.parse_args()
    try:
        aligned = alignment(read_config(options.run)["data"].get("prepare"))
        predictor = aunet.load(options.run)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"{options.run}: {error}")
    figures, sheet = check(predictor, options.scenes, options.frames, options.every, aligned)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out.with_suffix(".jpg")) as temporary:
        sheet.save(temporary, quality=90)
    write_json(options.out, figures)
    for name, value in figures.items():
        print(f"{name}: {value}")


def check(
    predictor: Predictor, scenes: int, frames: int, everies: Sequence[int], aligned: Mapping[str, Any]
) -> tuple[dict[str, float], Image.Image]:
    """The figures, by name, and the picture; ``aligned`` says how crops are, as ``two_people`` takes it."""
    rng = np.random.default_rng(11)
    intensities = behaviour.plan_intensities(2 * scenes, frames, STRIDE, rng)
    labels, crops, in_place, shown = [], [], [], []
    found = {every: Found() for every in everies}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(scenes):
            seen = list(two_people(seed, frames, intensities[2 * seed : 2 * seed + 2], **aligned))
            video = write_video(Path(folder) / "scene.mp4", (one.pixels for one in seen), fps=FPS, crf="20")
            for every in everies:
                table = predictor.predict(video, Options(detect_every=every))
                compare(table, seen, found[every])
            shown.append(drawn(table, frames // 2, seen[frames // 2]))
            decoded = [frame.pixels for batch in read_video(video) for frame in batch]
            for person in range(2):
                crops.append(probs_of_crops(predictor, [one.crops[person] for one in seen], folder))
                cut = [cut_in_place(a, b.placed[person]) for a, b in zip(decoded, seen, strict=True)]
                in_place.append(probs_of_crops(predictor, cut, folder))
                labels.append(np.stack([one.labels[person] for one in seen]))
            print(f"scene {seed + 1} of {scenes}", flush=True)
    figures = summary(*map(np.concatenate, (labels, crops, in_place)), found, 2 * frames)
    return figures, Image.fromarray(np.vstack(shown))


def summary(
    truth: npt.NDArray[np.int8],
    crops: npt.NDArray[np.float64],
    in_place: npt.NDArray[np.float64],
    found: Mapping[int, Found],
    scene: int,
) -> dict[str, float]:
    """The figures, by name.

    Args:
        truth: Labels of all faces.
        crops: Probabilities of the original crops.
        in_place: Of those cut out of the video where the original ones are.
        found: What was found.
        scene: Number of faces in a scene.
    """
    scenes = np.arange(len(truth)) // scene
    of_crops = video_counts(crops, truth, scenes)
    figures = {"faces": len(truth), "f1_of_crops": f1_of(of_crops)}
    figures |= against_crops("in_place", video_counts(in_place, truth, scenes), of_crops)
    for every, what in found.items():
        probs = np.array([np.zeros(truth.shape[1]) if one is None else one for one in what.probs])
        name = f"every_{every}"
        figures |= {
            f"{name}/found": round(float(np.mean([one is not None for one in what.probs])), 4),
            f"{name}/extra_faces": what.extra,
            f"{name}/people_with_one_number": sum(len(set(given)) == 1 for given in what.numbers),
            f"{name}/swaps": swaps(what.numbers),
        }
        figures |= {f"{name}/{key}": value for key, value in displacement(np.stack(what.moved)).items()}
        figures |= against_crops(name, video_counts(probs, truth, scenes), of_crops)
    return figures


def against_crops(name: str, counts: Counts, of_crops: Counts) -> dict[str, float]:
    """F1 and by how much it is above that of the original crops, with the ends of the interval."""
    apart = statistics.compare(counts, of_crops)
    ends = {"": apart.value, "_low": apart.low, "_high": apart.high}
    return {f"{name}/f1": f1_of(counts)} | {
        f"{name}/f1_minus_crops{end}": round(value, 4) for end, value in ends.items()
    }


def displacement(moved: npt.NDArray[np.float64]) -> dict[str, float]:
    """How similarities (n, 2, 3) displace the original crops: mean and scatter of each kind, and the corners.

    Shifts are those of the crop's centre, to the right and down, in its pixels.
    """
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)]) * CROP_SIZE
    shifts = corners @ moved[:, :, :2].transpose(0, 2, 1) + moved[:, None, :, 2] - corners
    a, b = moved[:, 0, 0], moved[:, 1, 0]
    kinds = {
        "scale_percent": 100 * np.hypot(a, b) - 100,
        "turn_degrees": np.degrees(np.arctan2(b, a)),
        "right_px": shifts[:, 4, 0],
        "down_px": shifts[:, 4, 1],
    }
    figures = {f"{kind}_mean": float(values.mean()) for kind, values in kinds.items()}
    figures |= {f"{kind}_scatter": float(values.std()) for kind, values in kinds.items()}
    figures["corner_shift_px"] = float(np.median(np.linalg.norm(shifts[:, :4], axis=2).max(1)))
    return {name: round(value, 2) for name, value in figures.items()}


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
            found.moved.append(similarity_between(points[row], one.placed[person]))
        found.numbers.append(numbers)
    found.extra += sum(map(len, rows)) - used


def drawn(table: Columns, k: int, one: SceneFrame) -> npt.NDArray[np.uint8]:
    """Frame ``k`` with boxes, numbers and points; below it, original crops and those that were cut out."""
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


def similarity_between(
    points: npt.NDArray[np.floating], placed: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(2, 3) from the original crop, which is placed in the picture, to the crop that points give."""
    matrix = align.similarity(points[None], align.template())[0]
    return np.asarray(matrix @ np.vstack([placed, (0, 0, 1)]))


def cut_in_place(picture: npt.NDArray[np.uint8], placed: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """The crop of a picture where the original one is placed."""
    points = align.template() @ placed[:, :2].T + placed[:, 2]
    return align.crops(picture, points[None], CROP_SIZE)[0].permute(1, 2, 0).numpy()


def swaps(numbers: Sequence[Sequence[int]]) -> int:
    """How often a number goes over to the other person of a scene."""
    return sum(len(set(numbers[k]) & set(numbers[k + 1])) for k in range(0, len(numbers), 2))


def points_of(table: Columns) -> npt.NDArray[np.floating]:
    """(n, 5, 2) points of a table."""
    return np.stack([np.stack([table[f"{name}_{axis}"] for axis in "xy"], 1) for name in POINTS], 1)


def probs_of(table: Columns) -> npt.NDArray[np.float64]:
    """(n, num_aus) probabilities of a table."""
    return np.stack([values for name, values in table.items() if name.endswith("_prob")], 1).astype(float)


def probs_of_crops(
    predictor: Predictor, film: Sequence[npt.NDArray[np.uint8]], folder: str
) -> npt.NDArray[np.float64]:
    """(n, num_aus) probabilities of aligned crops."""
    file = write_video(Path(folder) / "crops.mkv", film, codec="ffv1")
    return probs_of(predictor.predict(file, Options(crops=True)))


def f1_of(counts: Counts) -> float:
    """Macro F1 of the frames of all scenes."""
    return round(float(f1_per_au(counts.sum(0)).mean()), 4)


if __name__ == "__main__":
    main()
