"""Predictions of finished runs, as ``aunet.evaluation`` has left them; checked, since tables rest on them."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from aunet.cells import Cell
from aunet.postprocess import Postprocess, frame_seconds
from aunet.runs import RunError, read_metrics


def grouped_predictions(
    cell: Cell, metrics: Mapping[str, Any], groups: list[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8], npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Probabilities, labels, group and the group's number of each frame of a finished run.

    Args:
        cell: The run.
        metrics: Its ``metrics.json``.
        groups: Names of the groups of the runs read before, in order; receives them if it is empty.

    Raises:
        RunError: As ``predictions``, or its groups are others.
    """
    probs, labels, group = probabilities(cell.folder, len(metrics["aus"]))
    names, number = np.unique(group, return_inverse=True)
    if not groups:
        groups += names.tolist()
    elif groups != names.tolist():
        raise RunError(
            f"{cell.folder}: its validation videos are not those of the other runs; move it to another sweep"
        )
    return probs, labels, group, number


def probabilities(
    folder: Path, num_aus: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8], npt.NDArray[Any]]:
    """Probabilities, labels and group of each frame; raises RunError as ``predictions``."""
    logits, labels, group = predictions(folder, num_aus)
    # As when the run was evaluated, so that a logit next to 0 counts alike.
    return torch.from_numpy(logits).float().sigmoid().numpy(), labels, group


def predictions(folder: Path, num_aus: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Logits, labels, and the group of each frame: base video or person; its video where no group is told.

    Raises:
        RunError: The file is damaged, or not one of frames with so many AUs.
    """
    file = folder / "predictions.npz"
    with _opened(file) as arrays:
        group = arrays["group"] if "group" in arrays else arrays["video"]
        logits, labels = arrays["logits"], arrays["labels"]
    if not logits.shape == labels.shape == (len(group), num_aus):
        raise RunError(
            f"{file}: logits {logits.shape}, labels {labels.shape} and {len(group)} groups are not those of "
            f"frames with {num_aus} AUs; remove the run's folder"
        )
    if not np.isfinite(logits).all() or not np.isin(labels, (-1, 0, 1)).all():
        raise RunError(f"{file}: a logit is not finite, or a label not 0, 1 or -1; remove the run's folder")
    return logits, labels, group


def places(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(N,) video and (N,) number within it of each frame of ``predictions``.

    Raises:
        RunError: The file is damaged.
    """
    file = folder / "predictions.npz"
    with _opened(file) as arrays:
        video, frame = arrays["video"], arrays["frame"]
    if not len(video) == len(frame):
        raise RunError(
            f"{file}: {len(video)} videos and {len(frame)} numbers of frames; remove the run's folder"
        )
    return video, frame


def tune(postprocess: Postprocess, folder: Path, frames_per_second: float) -> Postprocess:
    """Thresholds tuned on a run's validation predictions, where they are to be tuned; for other videos.

    Args:
        postprocess: Whose thresholds are tuned, after its smoothing.
        folder: A finished run's.
        frames_per_second: Of the validation videos.

    Raises:
        RunError: The run has not finished, or its predictions are damaged.
    """
    metrics = read_metrics(folder)
    if metrics is None:
        raise RunError(f"{folder} is no finished run: metrics.json is missing")
    probs, labels, _ = probabilities(folder, len(metrics["aus"]))
    video, frame = places(folder)
    return postprocess.tuned(probs, labels, frame_seconds(frame, frames_per_second), video)


@contextmanager
def _opened(file: Path) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """The arrays of a file, each read when it is asked for."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    # NumPy's, for files that are missing, cut off, no archive, or without one of the arrays.
    except (OSError, BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file}: not readable ({error}); remove the run's folder") from None
