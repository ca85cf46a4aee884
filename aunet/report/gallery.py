"""Frames that a run got right and wrong, with what its network attended to."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from aunet.cells import Cell
from aunet.failures import USER_ERRORS, reason
from aunet.metrics import THRESHOLD
from aunet.module import ActionUnitModule
from aunet.overlays import overlay
from aunet.predictions import grouped_predictions, places
from aunet.rows import Row, Table
from aunet.runs import RunError
from aunet.trained import load, load_data

KINDS = (
    ("present, detected", True, True),
    ("absent, but detected", False, True),
    ("present, but missed", True, False),
    ("absent, not detected", False, False),
)
"""Title, whether the AU is present, whether it is detected."""

OPEN = "rendered"
"""How names of data sets begin whose pictures may be passed on: nobody's faces."""

QUALITY = 78
"""Of WebP, from 0 to 100."""


@dataclass(frozen=True)
class Example:
    """A frame of the gallery.

    Attributes:
        probability: Of the AU.
        place: Video and number of the frame.
        picture: Data URI; the frame, and beside it the same under the AU's attention where there is any.
    """

    probability: float
    place: str
    picture: str


@dataclass
class Gallery:
    """What is shown of one run.

    Attributes:
        missing: Why there are no pictures; empty if there are.
        title: Of the row.
        seed: Of the run.
        passed_over: Title of the row that would have been shown, did it attend to anything.
        attends: Whether pictures have attention beside them.
        size: (width, height) of the pictures in pixels.
        aus: For each AU the examples of each of ``KINDS``, the most confident first.
    """

    missing: str = ""
    title: str = ""
    seed: int = 0
    passed_over: str = ""
    attends: bool = False
    size: tuple[int, int] = (0, 0)
    aus: list[list[list[Example]]] = field(default_factory=list)

    def cut(self, most: int) -> None:
        """Keeps so many examples of each kind."""
        self.aus = [[examples[:most] for examples in kinds] for kinds in self.aus]


def make_gallery(
    table: Table,
    rows: Sequence[tuple[Row, Sequence[Cell]]],
    most: int,
    root: str | Path | None,
    faces: bool,
) -> Gallery:
    """The gallery of the first row, or of the first one behind it that attends to several positions.

    Args:
        table: Of all rows.
        rows: With their runs, in the order in which they are wanted.
        most: Examples of each kind.
        root: Where the data lie now; None: where the run has found them.
        faces: Embed pictures of data sets that are not rendered, too.
    """
    if not (faces or table.data.startswith(OPEN)):
        return Gallery(
            f"the faces of {table.data} are left out, since licences of such data restrict passing them on; "
            "with --faces they are embedded"
        )
    try:
        return _make(rows, most, root)
    # What is wrong with data, weights or their files: the rest of the page needs none of them.
    except (*USER_ERRORS, RuntimeError, EOFError, UnpicklingError) as error:
        return Gallery(reason(error))


def _make(rows: Sequence[tuple[Row, Sequence[Cell]]], most: int, root: str | Path | None) -> Gallery:
    row, run, module = _run_to_show(rows)
    probs, labels, group, _ = grouped_predictions(run, run.metrics or {}, [])
    data = load_data(run.folder, root)
    if len(data.tables["val"]) != len(probs):
        file = run.folder / "predictions.npz"
        raise RunError(f"{file}: {len(probs)} frames; the data have {len(data.tables['val'])}")
    found = [
        [most_confident(p, y, group, present, detected, most) for _, present, detected in KINDS]
        for p, y in zip(probs.T, labels.T, strict=True)
    ]
    chosen = sorted({frame for kinds in found for frames in kinds for frame in frames})
    pictures = data.frames("val", chosen)
    maps = _maps(module, pictures) if _attends(module) else None
    videos, numbers = places(run.folder)

    def example(frame: int, au: int) -> Example:
        place = chosen.index(frame)
        shown = pictures[place]
        if maps is not None:
            attention = maps[place] if maps.ndim == 3 else maps[place, au]
            shown = np.concatenate([shown, overlay(shown, attention)], 1)
        return Example(float(probs[frame, au]), f"{videos[frame]}, frame {numbers[frame]}", _data_uri(shown))

    aus = [[[example(frame, au) for frame in frames] for frames in kinds] for au, kinds in enumerate(found)]
    height, width = pictures.shape[1:3]
    size = (width * (1 if maps is None else 2), height)
    passed_over = "" if row is rows[0][0] else rows[0][0].title
    return Gallery("", row.title, run.seed, passed_over, maps is not None, size, aus)


def _run_to_show(rows: Sequence[tuple[Row, Sequence[Cell]]]) -> tuple[Row, Cell, ActionUnitModule]:
    """The best run of the first row that attends to several positions; of the first row if none does."""
    runs = [
        (row, max((cell for cell in cells if cell.metrics), key=lambda c: float((c.metrics or {})["val/f1"])))
        for row, cells in rows
    ]
    for row, run in runs:
        module = load(run.folder)
        if _attends(module):
            return row, run, module
    return *runs[0], load(runs[0][1].folder)


def most_confident(
    probs: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.int8],
    group: npt.NDArray[Any],
    present: bool,
    detected: bool,
    most: int,
) -> list[int]:
    """Frames of one kind on which a network was surest, each of another video or person.

    Args:
        probs: (N,) of one AU.
        labels: (N,) in {0, 1, -1}.
        group: (N,) video or person.
        present: Whether the AU is to be present.
        detected: Whether it is to be detected.
        most: How many at most.

    Returns:
        Their numbers, the surest first.
    """
    frames = np.flatnonzero((labels == int(present)) & ((probs >= THRESHOLD) == detected))
    frames = frames[np.argsort(-probs[frames] if detected else probs[frames], kind="stable")]
    _, firsts = np.unique(group[frames], return_index=True)
    return [int(i) for i in frames[np.sort(firsts)][:most]]


def _attends(module: ActionUnitModule) -> bool:
    network = module.network
    return hasattr(network.attention, "weights") and math.prod(network.map_size) > 1


def _maps(module: ActionUnitModule, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(n, h, w), or (n, num_aus, h, w)."""
    weights = cast("Callable[[torch.Tensor], torch.Tensor]", module.network.attention.weights)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    with torch.inference_mode():  # in small batches, which need little memory
        batches = (pixels[start : start + 16] for start in range(0, len(pixels), 16))
        maps = torch.cat([weights(module.network.features(batch)) for batch in batches])
    found: npt.NDArray[np.float32] = maps.numpy()
    return found


def _data_uri(picture: npt.NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
