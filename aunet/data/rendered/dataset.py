"""The data set on disk: rendering all of it once, safely, and refusing to mix it with another."""

import concurrent.futures
import csv
import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from aunet.data.faults import DataError
from aunet.data.rendered.facts import MANIFEST
from aunet.data.rendered.track import (
    CROPS,
    PARTIAL,
    SPLITS,
    TRUTH,
    Landmarks,
    Track,
    render_track,
    replacing,
    tracks,
)
from aunet.processes import end_with_parent, usable_cores
from aunet.progress import progress

RENDERER_VERSION = 2
"""Raise with every change that alters a picture or a label: sets of different versions are not mixed."""

LANDMARK_NOISE = 1.5
"""Standard deviation of the landmarks' noise, in pixels of the crop.

A choice: MTCNN's points of rendered faces scatter by about 2 (a crop turns by 1 degree for each pixel, see
``experiments/predict_check.py``), those of newer detectors by less."""

MOST_NOISE = 8.0
"""Beyond it, crops may show no face."""

TEST_LIST = "Action_Unit_Detection_Challenge_test_set_release.txt"
TEST_FRAMES = "AU_ABAW_Challenge_test_files_expected_frames.txt"
SUBJECTS = "subjects.csv"

T = TypeVar("T")


def render(
    out: str | Path,
    *,
    videos: Mapping[str, int],
    frames_per_video: int = 8,
    stride: int = 15,
    seed: int = 0,
    landmarks: Landmarks = "moving",
    landmark_noise: float = LANDMARK_NOISE,
    workers: int | None = None,
) -> Path:
    """Render the embedded data set into a folder, in the layout of Aff-Wild2.

    Returns at once when the folder already holds just this set. Goes on where an interrupted call stopped.
    Of several processes that render to one folder, one works and the others wait for it. The files are the
    same, byte for byte, for any number of workers and of interruptions.

    Args:
        out: folder of the set; made when missing.
        videos: number of videos of each split, e.g. ``{"train": 290, "val": 115, "test": 6}``. Every tenth
            video shows two people, each with a crop folder and an annotation file of its own.
        frames_per_video: frames of each video, at least 1.
        stride: behaviour is simulated at 30 frames per second, of which one frame in ``stride`` is kept: 15
            keeps two frames per second. Kept frames are numbered 1, 2, 3, ...
        seed: draws everything: people, behaviour, light, noise.
        landmarks: whose points align the crops, see ``aunet.data.rendered.track.Landmarks``.
        landmark_noise: standard deviation of what is added to each coordinate of the points, in pixels of the
            crop.
        workers: processes; one for each usable core when None.

    Returns:
        The folder, as a Path.

    Raises:
        DataError: an argument is out of range, or the folder holds something else: a set made with other
            arguments, or files that are no rendered set.
        ModuleNotFoundError: anny is not installed.
    """
    from filelock import FileLock

    if unknown := set(videos) - set(SPLITS):
        raise DataError(f"videos: unknown split {sorted(unknown)}; its keys are {', '.join(SPLITS)}")
    if min(frames_per_video, stride) < 1 or min(videos.values(), default=0) < 0 or seed < 0:
        raise DataError("frames_per_video and stride are at least 1, videos and seed at least 0: change them")
    if landmarks not in get_args(Landmarks):
        raise DataError(f"landmarks={landmarks}: one of {', '.join(get_args(Landmarks))}")
    if not 0 <= landmark_noise <= MOST_NOISE:
        raise DataError(f"landmark_noise={landmark_noise}: from 0 to {MOST_NOISE} pixels")
    arguments: dict[str, Any] = {
        "renderer_version": RENDERER_VERSION,
        "videos": {split: int(videos.get(split, 0)) for split in SPLITS},
        "frames_per_video": int(frames_per_video),
        "stride": int(stride),
        "seed": int(seed),
        "landmarks": landmarks,
        "landmark_noise": float(landmark_noise),
    }
    digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
    root = Path(out)
    root.mkdir(parents=True, exist_ok=True)
    if _holds(root / MANIFEST, arguments, root):
        return root
    with FileLock(root / ".lock"):
        if _holds(root / MANIFEST, arguments, root):  # by another process, while this one waited
            return root
        _prepare(root, arguments)
        _render_missing(root, arguments, workers)
        _write_lists(root, arguments)
        _write_json(root / MANIFEST, {"fingerprint": digest, "arguments": arguments})
        shutil.rmtree(root / PARTIAL)
    return root


def _holds(manifest: Path, arguments: Mapping[str, Any], root: Path) -> bool:
    """Whether a manifest is there and of these arguments; ValueError if of others."""
    if not manifest.exists():
        return False
    found = json.loads(manifest.read_text())["arguments"]
    differing = [
        f"{key}: {found.get(key)} there, {arguments.get(key)} asked for"
        for key in sorted({*found, *arguments})
        if found.get(key) != arguments.get(key)
    ]
    if differing:
        raise DataError(
            f"out: {root} holds faces rendered with other arguments ({'; '.join(differing)}); "
            "render to another folder, or delete this one"
        )
    return True


def _prepare(root: Path, arguments: Mapping[str, Any]) -> None:
    """Check that the folder is empty or an interrupted rendering of this set; clear what was half done."""
    started = root / PARTIAL / MANIFEST
    foreign = sorted(p.name for p in root.iterdir() if p.name not in (".lock", PARTIAL))
    if not _holds(started, arguments, root) and foreign:
        raise DataError(f"out: {root} holds {foreign[0]}, which is no rendered set; give an empty folder")
    started.parent.mkdir(exist_ok=True)
    _write_json(started, {"arguments": arguments})
    for leftover in started.parent.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover != started:
            leftover.unlink()
    (root / CROPS).mkdir(exist_ok=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)


def _all_tracks(arguments: Mapping[str, Any]) -> list[Track]:
    return [track for split, count in arguments["videos"].items() for track in tracks(split, count)]


def _render_missing(root: Path, arguments: Mapping[str, Any], workers: int | None) -> None:
    jobs = [
        (
            root,
            track,
            arguments["videos"][track.split],
            *(arguments[k] for k in ("frames_per_video", "stride", "seed", "landmarks", "landmark_noise")),
        )
        for track in _all_tracks(arguments)
        if not (root / CROPS / track.name).exists()
    ]
    workers = max(min(workers or usable_cores(), len(jobs)), 1)
    if workers == 1:
        for job in _shown(jobs, len(jobs)):
            render_track(*job)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, end_with_parent) as pool:
        futures = [pool.submit(render_track, *job) for job in jobs]
        try:
            for future in _shown(concurrent.futures.as_completed(futures), len(jobs)):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shown(steps: Iterable[T], total: int) -> Iterator[T]:
    """The steps, with their progress."""
    with progress("rendering faces", total, "videos") as advance:
        for step in steps:
            yield step
            advance(1)


def _write_lists(root: Path, arguments: Mapping[str, Any]) -> None:
    """The test split's two lists and the truth's table of subjects."""
    everyone = _all_tracks(arguments)
    test = [track.name for track in everyone if track.split == "test"]
    work = root / PARTIAL / "lists"
    with replacing(root / TEST_LIST, work) as path:
        path.write_text("".join(f"{name}\n" for name in test))
    with replacing(root / TEST_FRAMES, work) as path:
        path.write_text("".join(f"{name},{arguments['frames_per_video']}\n" for name in test))
    with replacing(root / TRUTH / SUBJECTS, work) as path, path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["track", "split", "video", "subject"])
        rows.writerows(
            [t.name, t.split, t.name.removesuffix("_left").removesuffix("_right"), t.subject]
            for t in everyone
        )
