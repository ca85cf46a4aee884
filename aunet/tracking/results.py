"""What loggers get at the end of a run: figures and pictures of what its best weights predict."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger

from aunet.data.datamodule import FrameDataModule
from aunet.facs import au_column
from aunet.measures import average_precision, ece, macro
from aunet.metrics import confusion_counts, f1_metrics
from aunet.module import ActionUnitModule
from aunet.predictions import predictions
from aunet.runs import RunError
from aunet.thresholds import Labels, Probs
from aunet.tracking import figures, on_wandb
from aunet.tracking.epochs import confusion_metrics
from aunet.tracking.figures import Picture
from aunet.tracking.frames import WorstFrame, errors, sheet, worst_frames

log = logging.getLogger(__name__)

SEEING = (on_wandb.RunLogger, TensorBoardLogger, MLFlowLogger)
"""Loggers that take pictures."""


def may_send_faces(asked: bool | str, data: str) -> bool:
    """Whether loggers may get pictures of faces.

    Args:
        asked: True, False, or "auto": of rendered faces only. Licences of recorded ones forbid to pass them
            on, also to a logger's server.
        data: Name of the data set.

    Raises:
        RunError: Something else was asked for.
    """
    if asked not in (True, False, "auto"):
        raise RunError(f"log_frames={asked} must be auto, true or false")
    return data.startswith("rendered") if asked == "auto" else bool(asked)


def log_results(
    loggers: Sequence[Logger],
    module: ActionUnitModule,
    datamodule: FrameDataModule,
    folder: Path,
    step: int,
    with_faces: bool,
) -> None:
    """Sends what the best weights have predicted of the validation split, all keys beginning with ``best/``.

    Every logger gets F1, precision, recall, confusion counts, average precision and calibration error.
    wandb, TensorBoard and MLflow also get precision-recall curves, reliability diagrams, and the worst frames
    with what was attended to; CSV has no place for pictures. What cannot be sent
    is said, and fails no run.

    Args:
        loggers: Lightning's.
        module: In evaluation mode, with the best weights.
        datamodule: Gives the frames.
        folder: The run folder, with ``predictions.npz``.
        step: Of the training.
        with_faces: Whether pictures of faces may be sent.
    """
    if not loggers:
        return
    seeing = [logger for logger in loggers if isinstance(logger, SEEING)]
    if seeing and not with_faces:
        log.info(
            f"pictures of {datamodule.name} are kept from the loggers, as licences of recorded faces ask; "
            f"log_frames=true sends them"
        )
    try:
        logits, labels, _ = predictions(folder, len(module.aus))
        probs = torch.from_numpy(logits).float().sigmoid().numpy()
        found = {f"best/{key}": value for key, value in measured(probs, labels, module.aus).items()}
        for logger in loggers:
            logger.log_metrics(found, step=step)
        if not seeing:
            return
        worst = worst_frames(module, datamodule, logits, labels, with_faces)
        pictures = {
            "best/precision_recall": figures.precision_recall(probs, labels, module.aus),
            "best/reliability": figures.reliability(probs, labels, module.aus),
        }
        if with_faces:
            pictures["best/worst_frames"] = sheet(worst, module.aus)
        for logger in seeing:
            _send(logger, pictures, worst, module.aus, folder / "best.ckpt", step)
    except Exception as error:  # whatever a logger or a picture is at fault in: the run itself is complete
        log.warning(f"loggers lack some of the run's end: {type(error).__name__}: {error}")


def measured(probs: Probs, labels: Labels, aus: Sequence[int]) -> dict[str, float]:
    """F1, precision, recall, counts, average precision and calibration error, those that are defined.

    Args:
        probs: (N, num_aus) in [0, 1].
        labels: (N, num_aus) in {0, 1, -1}.
        aus: AU number of each column.

    Returns:
        Those of ``confusion_metrics``; ``val/f1``, ``val/average_precision`` and ``val/ece``, means over the
        AUs, and each AU's under ``/AU<n>``.
    """
    counts = confusion_counts(probs, labels)
    found = f1_metrics(counts, aus) | confusion_metrics(torch.from_numpy(counts), aus)
    for name, measure in (("average_precision", average_precision), ("ece", ece)):
        values = measure(probs, labels)
        found[f"val/{name}"] = macro(values)
        found |= {f"val/{name}/{au_column(au)}": float(v) for au, v in zip(aus, values, strict=True)}
    return {key: value for key, value in found.items() if not math.isnan(value)}


def _send(
    logger: Logger,
    pictures: Mapping[str, Picture],
    worst: Sequence[WorstFrame],
    aus: Sequence[int],
    checkpoint: Path,
    step: int,
) -> None:
    if isinstance(logger, on_wandb.RunLogger):
        on_wandb.send(logger, pictures, worst, aus, checkpoint, step)
        return
    text = _as_text(worst, aus)
    if isinstance(logger, TensorBoardLogger):
        for key, picture in pictures.items():
            logger.experiment.add_image(key, picture, step, dataformats="HWC")
        logger.experiment.add_text("best/worst_frames", text, step)
    elif isinstance(logger, MLFlowLogger):
        for key, picture in pictures.items():
            logger.experiment.log_image(logger.run_id, picture, f"{key}.png")
        logger.experiment.log_text(logger.run_id, text, "best/worst_frames.md")


def _as_text(worst: Sequence[WorstFrame], aus: Sequence[int]) -> str:
    rows = [f"| {w.video} | {w.frame} | {w.loss:.3f} | {errors(w, aus)} |" for w in worst]
    return "\n".join(["| video | frame | loss | wrong (probability) |", "| :-- | --: | --: | :-- |", *rows])
