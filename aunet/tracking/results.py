"""What loggers get at the end of a run: figures and pictures of what its best weights predict."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger

from aunet.data.datamodule import FrameDataModule
from aunet.facs import au_column
from aunet.measures import average_precision, ece, macro
from aunet.metrics import confusion_counts
from aunet.module import ActionUnitModule
from aunet.predictions import predictions
from aunet.runs import RunError
from aunet.thresholds import Array
from aunet.tracking import figures, on_wandb
from aunet.tracking.epochs import confusion_metrics
from aunet.tracking.figures import Picture
from aunet.tracking.frames import WorstFrame, errors, sheet, worst_frames

log = logging.getLogger(__name__)


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
    metrics: Mapping[str, float],
    step: int,
    with_faces: bool,
) -> None:
    """Sends what the best weights have predicted of the validation split, all keys beginning with ``best/``.

    Every logger gets F1, precision, recall, confusion counts, average precision and calibration error.
    wandb, TensorBoard and MLflow also get precision-recall curves, reliability diagrams, and the worst frames
    with what was attended to; CSV has no place for pictures. What cannot be sent is said, and costs nothing.

    Args:
        loggers: Lightning's.
        module: In evaluation mode, with the best weights.
        datamodule: Gives the frames.
        folder: The run folder, with ``predictions.npz``.
        metrics: Of ``aunet.evaluation.evaluate``.
        step: Of the training.
        with_faces: Whether pictures of faces may be sent.
    """
    if not loggers:
        return
    logits, labels, _ = predictions(folder, len(module.aus))
    probs = torch.from_numpy(logits).float().sigmoid().numpy()
    found = {key: value for key, value in metrics.items() if key.startswith("val/")}
    found |= confusion_metrics(torch.from_numpy(confusion_counts(probs, labels)), module.aus)
    for name, values in (("average_precision", average_precision), ("ece", ece)):
        found |= _of_aus(f"val/{name}", values(probs, labels), module.aus)
    for logger in loggers:
        logger.log_metrics({f"best/{key}": value for key, value in found.items()}, step=step)
    seeing = [logger for logger in loggers if isinstance(logger, _SEEING)]
    if not seeing:
        return
    if not with_faces:
        log.info(
            f"pictures of {datamodule.name} are kept from the loggers, as licences of recorded faces ask; "
            f"log_frames=true sends them"
        )
    try:
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
        log.warning(f"pictures of the run's end are not with the loggers: {type(error).__name__}: {error}")


_SEEING = (on_wandb.RunLogger, TensorBoardLogger, MLFlowLogger)
"""Loggers that take pictures."""


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


def _of_aus(name: str, values: Array, aus: Sequence[int]) -> dict[str, Any]:
    """Mean and each AU's value, those that are defined."""
    found = {name: macro(values)}
    found |= {f"{name}/{au_column(au)}": float(value) for au, value in zip(aus, values, strict=True)}
    return {key: value for key, value in found.items() if value == value}  # not NaN
