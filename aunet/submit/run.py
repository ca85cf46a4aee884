"""From a run to a submission: predicts every crop of the test videos, and answers for every other frame."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aunet.about import validation_rate
from aunet.data.affwild2 import base_video, read_crops
from aunet.data.datamodule import FrameDataModule
from aunet.data.faults import DataError, Faults, OnBad
from aunet.data.frames import FrameTable
from aunet.data.testset import Expected
from aunet.facs import AFFWILD2, au_column
from aunet.module import ActionUnitModule
from aunet.postprocess import Postprocess, frame_seconds
from aunet.predictions import places, tune
from aunet.progress import progress
from aunet.runs import RunError, read_metrics
from aunet.submit.check import check
from aunet.submit.files import Format, built, write_pictures, write_videos
from aunet.thresholds import Labels, Probs
from aunet.trained import data_module, load

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """What was written.

    Attributes:
        path: The file or folder.
        videos: Number of videos.
        frames: Number of their frames, crop or not.
        predicted: Of these, how many have a crop, from which they were predicted.
        postprocess: What was done to the predictions, with the thresholds that were tuned.
    """

    path: Path
    videos: int
    frames: int
    predicted: int
    postprocess: Postprocess


def submit(
    run_dir: str | Path,
    expected: Expected,
    data: str | Path,
    out: str | Path,
    form: Format = "abaw3",
    postprocess: Postprocess | None = None,
    frames_per_second: float = 30.0,
    crops: str | Path | None = None,
    on_bad: OnBad = "error",
) -> Submission:
    """Writes a submission of a run's network for a test split.

    A frame without a crop gets what post-processing fills in; where that leaves it unknown, the answer of the
    nearest frame of its video; in a video without any crop, the AU's majority among the training labels.

    Args:
        run_dir: A finished run's folder.
        expected: What is due.
        data: Folder that holds the crops.
        out: Folder (abaw3) or file (abaw5) to write; it appears when it is complete, and has been checked.
        form: Of the submission.
        postprocess: None: threshold 0.5, nothing else. Thresholds "tuned" are tuned on the run's validation
            predictions.
        frames_per_second: Of the videos, which seconds of post-processing refer to.
        crops: The folder of crops; None: found by its name, see ``read_affwild2``.
        on_bad: "skip" takes frames whose crop cannot be used for frames without one, and names them.

    Raises:
        RunError: The folder is no finished run; it does not detect all AUs of the competition; or its
            thresholds would be tuned on videos of the submission.
        DataError: There are no crops, or one cannot be used.
        FileExistsError: There is something at ``out``.
    """
    folder = Path(run_dir)
    frame_seconds(np.ones(1, np.int64), frames_per_second)  # refuses what is no rate before the work
    with built(Path(out), form) as temporary:
        datamodule = data_module(folder, data)
        datamodule.on_bad = on_bad
        module = load(folder)
        columns = _columns(module, folder)
        chosen = _ready(postprocess or Postprocess(), folder, expected)
        majority = _majority(folder)
        table = _due_crops(Path(data), expected, module.aus, crops)
        probs = crop_probs(module, datamodule, table)
        number = {video: i for i, video in enumerate(table.videos)}
        answers = {}
        for video, count in expected.frames.items():
            rows = table.video == number.get(video, -1)
            found = answer(probs[rows], table.frame[rows], count, chosen, frames_per_second, majority)
            answers[video] = found[:, columns]
        if form == "abaw3":
            write_videos(temporary, answers)
        else:
            write_pictures(temporary, answers, expected)
        if wrong := check(temporary, expected, form).lines(1):
            raise RuntimeError(f"what was written does not pass the check: {wrong[0]}; please report this")
    known = int((~np.isnan(probs)).all(1).sum())
    due = sum(1 for _ in expected.pictures())
    return Submission(Path(out), len(answers), due, known, chosen)


def crop_probs(
    module: ActionUnitModule, datamodule: FrameDataModule, table: FrameTable
) -> npt.NDArray[np.float32]:
    """Probabilities of a table's frames, on CUDA where there is one.

    Args:
        module: With its weights, in evaluation mode.
        datamodule: Of its run, which treats pictures as the run did.
        table: N frames.

    Returns:
        (N, num_aus) in [0, 1]; rows of NaN where a crop was skipped.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    datamodule.tables = {"test": table}
    module.to(device, memory_format=torch.channels_last)
    probs = np.empty((len(table), len(module.aus)), np.float32)
    with torch.inference_mode(), progress("predicting", len(table), "frames") as advance:
        for batch in datamodule.batches("test", device):
            rows = batch["index"].cpu().numpy()
            probs[rows] = module.batch_logits(batch).float().sigmoid().cpu().numpy()
            advance(len(rows))
    probs[sorted(datamodule.skipped.get("test", ()))] = np.nan
    return probs


def answer(
    probs: Probs,
    frame: npt.NDArray[np.integer[Any]],
    count: int,
    postprocess: Postprocess,
    frames_per_second: float,
    majority: npt.NDArray[np.int8],
) -> Labels:
    """Answers for all frames of a video, or of one person in it.

    Args:
        probs: (n, num_aus) of the frames with a crop; a row of NaN is a crop that could not be used.
        frame: (n,) numbers of these frames, from 1 to ``count``.
        count: Frames that are due.
        postprocess: With thresholds that need no tuning any more.
        frames_per_second: Of the video.
        majority: (num_aus,) in {0, 1}; the answer where there is no crop at all.

    Returns:
        (count, num_aus) in {0, 1}.
    """
    track = np.full((count, probs.shape[1]), np.nan)
    track[frame - 1] = probs
    _, occurrence = postprocess(track, frame_seconds(np.arange(1, count + 1), frames_per_second))
    return completed(occurrence, majority)


def completed(occurrence: Labels, majority: npt.NDArray[np.int8]) -> Labels:
    """Answers for all frames: those of the nearest known frame, of two as near the earlier.

    Args:
        occurrence: (n, num_aus) in {0, 1}; rows of -1 where nothing is known.
        majority: (num_aus,) in {0, 1}; the answer where no row is known.

    Returns:
        (n, num_aus) in {0, 1}.
    """
    known = np.flatnonzero((occurrence >= 0).all(1))
    if not len(known):
        return np.tile(majority, (len(occurrence), 1))
    frames = np.arange(len(occurrence))
    after = known[np.minimum(np.searchsorted(known, frames), len(known) - 1)]
    before = known[np.maximum(np.searchsorted(known, frames, side="right") - 1, 0)]
    return occurrence[np.where(np.abs(frames - before) <= np.abs(after - frames), before, after)]


def _columns(module: ActionUnitModule, folder: Path) -> list[int]:
    """Place of each AU of the competition among the network's."""
    missing = [au_column(au) for au in AFFWILD2 if au not in module.aus]
    if missing:
        raise RunError(f"{folder} does not detect {', '.join(missing)}, which the competition asks for")
    return [module.aus.index(au) for au in AFFWILD2]


def _majority(folder: Path) -> npt.NDArray[np.int8]:
    """(num_aus,) whether most training labels of an AU say 1; 0 for one that was never labelled."""
    metrics = read_metrics(folder) or {}
    if "training_rates" not in metrics:
        raise RunError(f"{folder / 'metrics.json'}: lacks training_rates; train the run again")
    return (np.array(metrics["training_rates"], np.float64) >= 0.5).astype(np.int8)


def _ready(postprocess: Postprocess, folder: Path, expected: Expected) -> Postprocess:
    """Post-processing with its thresholds tuned, on other videos than those of the submission."""
    if postprocess.threshold != "tuned":
        return postprocess
    seen = {base_video(str(video)) for video in np.unique(places(folder)[0])}
    if shared := sorted(seen & {base_video(video) for video in expected.frames}):
        raise RunError(
            f"thresholds would be tuned on the labels of {shared[0]} ({len(shared)} of the videos asked for "
            f"are validation videos of {folder}): choose a postprocess without threshold=tuned"
        )
    return tune(postprocess, folder, validation_rate(folder))


def _due_crops(data: Path, expected: Expected, aus: tuple[int, ...], crops: str | Path | None) -> FrameTable:
    """The crops of frames that are due; says which videos have none, and which have too many."""
    faults = Faults()
    table = read_crops(data, tuple(expected.frames), aus, crops, faults)
    for line in faults.lines(5):
        log.warning(line)
    if without := [video for video in expected.frames if video not in table.videos]:
        log.warning(
            f"{len(without)} listed videos have no crop, all their frames get the training majority: "
            + ", ".join(without)
        )
    last = np.array([expected.frames[video] for video in table.videos])
    due = (table.frame >= 1) & (table.frame <= last[table.video])
    if not due.any():
        raise DataError(f"{data}: none of the {len(due)} crops is of a frame that the organisers expect")
    for number in np.unique(table.video[~due]):
        extra = table.frame[(table.video == number) & ~due]
        log.warning(
            f"{table.videos[number]}: {len(extra)} crops are not among the {last[number]} frames that the "
            f"organisers expect, the first is {extra[0]:05d}; left out"
        )
    return table.take(np.flatnonzero(due))
