"""The frames that a network got most wrong, with what it attended to."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from aunet.data.datamodule import FrameDataModule
from aunet.data.loader import channels_first
from aunet.facs import au_column
from aunet.metrics import THRESHOLD
from aunet.module import ActionUnitModule
from aunet.overlays import overlay
from aunet.tracking.figures import Picture, picture_of

Logits = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int8]

MOST = 16
"""Frames that are looked at."""

_COLUMNS, _CHARACTERS = 4, 60
"""Frames side by side on the sheet, and what fits into a line above one."""


@dataclass(frozen=True)
class WorstFrame:
    """A frame of the validation split.

    Attributes:
        video: Its name.
        frame: Number within the video.
        loss: Of the frame, see ``frame_losses``.
        labels: (num_aus,) in {0, 1, -1}.
        probs: (num_aus,) in [0, 1].
        worst: Index of the AU of the largest loss.
        image: The frame; None where it is withheld.
        attention: The frame under its attention map, of AU ``worst`` where each AU has a map of its own; None
            where the network does not attend, or the frame is withheld.
    """

    video: str
    frame: int
    loss: float
    labels: npt.NDArray[np.int8]
    probs: npt.NDArray[np.floating[Any]]
    worst: int
    image: Picture | None = None
    attention: Picture | None = None


def frame_losses(logits: Logits, labels: Labels) -> npt.NDArray[np.float64]:
    """Cross-entropy of each frame and AU, unweighted; 0 where the label is unknown.

    Args:
        logits: (N, num_aus).
        labels: (N, num_aus) in {0, 1, -1}.
    """
    losses = np.logaddexp(0, np.where(labels == 1, -logits, logits).astype(np.float64))
    return np.where(labels >= 0, losses, 0)


def worst_rows(losses: npt.NDArray[np.float64], video: npt.NDArray[Any], most: int = MOST) -> list[int]:
    """Rows of the frames of the largest loss, worst first, one of a video: neighbours look alike.

    Args:
        losses: (N,) of each frame.
        video: (N,) that it belongs to.
        most: Number of frames.
    """
    order = np.argsort(-losses, kind="stable")
    _, first = np.unique(video[order], return_index=True)
    return [int(row) for row in order[np.sort(first)[:most]]]


def worst_frames(
    module: ActionUnitModule,
    datamodule: FrameDataModule,
    logits: Logits,
    labels: Labels,
    with_pictures: bool,
) -> list[WorstFrame]:
    """The validation frames of the largest mean loss over their known labels, of different videos.

    Args:
        module: In evaluation mode, with the weights that gave the logits.
        datamodule: Gives the frames.
        logits: (N, num_aus), a row for each of the validation table.
        labels: (N, num_aus) in {0, 1, -1}.
        with_pictures: Whether pictures of faces may be shown.
    """
    losses = frame_losses(logits, labels)
    mean = losses.sum(1) / np.maximum(1, (labels >= 0).sum(1))
    table = datamodule.tables["val"]
    rows = worst_rows(mean, table.video)
    worst = losses[rows].argmax(1)
    images: list[Any] = [None] * len(rows)
    overlays: list[Any] = images
    if with_pictures:
        images = list(datamodule.frames("val", rows))
        overlays = _attention(module, np.stack(images), worst)
    probs = torch.from_numpy(logits[rows]).float().sigmoid().numpy()
    return [
        WorstFrame(
            video=table.videos[table.video[row]],
            frame=int(table.frame[row]),
            loss=float(mean[row]),
            labels=labels[row],
            probs=probs[i],
            worst=int(worst[i]),
            image=images[i],
            attention=overlays[i],
        )
        for i, row in enumerate(rows)
    ]


def sheet(frames: Sequence[WorstFrame], aus: Sequence[int]) -> Picture:
    """All of them side by side, each beside its overlay, under its video, its loss and its errors.

    Args:
        frames: With images.
        aus: AU number of each label.
    """
    columns = min(_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    figure = Figure(figsize=(4 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, found in zip(grid.flat, frames, strict=False):
        shown = [picture for picture in (found.image, found.attention) if picture is not None]
        axes.imshow(np.hstack(shown))
        most = au_column(aus[found.worst])
        said = f"{found.video} {found.frame}, loss {found.loss:.2f}, most of it in {most}"
        lines = [said, *wrap(errors(found, aus), _CHARACTERS)]
        axes.set_title("\n".join(lines), fontsize="x-small")
    return picture_of(figure)


def errors(found: WorstFrame, aus: Sequence[int]) -> str:
    """What is wrong, for instance "missed AU1 (0.02); false AU12 (0.97)"."""
    said = []
    for what, label in (("missed", 1), ("false", 0)):
        wrong = (found.labels == label) & ((found.probs >= THRESHOLD) != label)
        listed = ", ".join(
            f"{au_column(aus[i])} ({found.probs[i]:.2f})" for i in np.flatnonzero(wrong).tolist()
        )
        said += [f"{what} {listed}"] if listed else []
    return "; ".join(said) or "nothing missed or false"


def _attention(module: ActionUnitModule, images: npt.NDArray[np.uint8], worst: Sequence[int]) -> list[Any]:
    """Overlay of each image; None each where the network does not attend."""
    weights = getattr(module.network.attention, "weights", None)  # see aunet.attention
    if weights is None:
        return [None] * len(images)
    frames = channels_first(torch.from_numpy(images)).to(module.device)
    with torch.inference_mode():
        maps = weights(module.network.features(frames)).float().cpu().numpy()
    if maps.ndim == 4:  # one for each AU
        maps = maps[np.arange(len(maps)), worst]
    return [overlay(image, of_image) for image, of_image in zip(images, maps, strict=True)]
