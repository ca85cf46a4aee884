"""Pictures of where a network looks: single frames of each AU, and mean maps over mean faces."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from aunet.data.datamodule import FrameDataModule
from aunet.facs import CROP_SIZE, NAMES, REGIONS, au_column
from aunet.files import replacing
from aunet.localisation.estimates import Sample
from aunet.localisation.maps import GRID, Look, Maps
from aunet.localisation.scores import region, relative
from aunet.overlays import overlay

CELL = 5
"""Pixels of the sheet for each cell of the maps."""
TILE = GRID * CELL
EXAMPLES = 3
"""Frames of each AU."""
GAP, WIDE_GAP, MARGIN, HEADER = 4, 20, 132, 70
PAPER, INK, FAINT, OUTLINE = (250, 249, 247), (32, 33, 36), (95, 98, 104), (0, 214, 240)

_AT_ONCE = 256

Pixels = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.bool_]


def write_sheets(out: Path, title: str, seen: Look, data: FrameDataModule, sample: Sample) -> list[Path]:
    """Writes both sheets of a run, ``<title>_maps.png`` and ``<title>_mean_maps.png``.

    Args:
        out: Folder, made if it is missing.
        title: Names the run.
        seen: Its maps over the frames of the sample.
        data: Gives the pictures.
        sample: The frames. Outlines are the regions that AUs moved, or those of facs where nobody knows.
    """
    out.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", title)
    files = []
    for suffix, draw in (("maps", frame_sheet), ("mean_maps", mean_sheet)):
        picture = draw(title, seen, data, sample)
        files.append(out / f"{stem}_{suffix}.png")
        with replacing(files[-1]) as temporary:
            picture.save(temporary)
    return files


def frame_sheet(title: str, seen: Look, data: FrameDataModule, sample: Sample) -> Image.Image:
    """For each AU some frames that show it, evenly spread: as they are, and under the maps."""
    methods = _methods(seen)
    block = (1 + len(methods)) * (TILE + GAP) + WIDE_GAP
    size = MARGIN + EXAMPLES * block, len(data.aus)
    sheet = _Sheet(size, f"{title}: frames that show each AU; p: probability given to it", sample)
    for example in range(EXAMPLES):
        sheet.headings(MARGIN + example * block, ["frame", *methods])
    for row, au in enumerate(data.aus):
        sheet.label(0, row, au, "")
        present = np.flatnonzero(sample.shown[:, row])
        shown = min(EXAMPLES, len(present))
        chosen = present[((np.arange(shown) + 0.5) / max(1, shown) * len(present)).astype(int)]
        for example, frame in enumerate(chosen):
            (picture,) = data.frames("val", sample.rows[[frame]])
            maps = [m.on_grid(np.array([frame]), np.array([row]))[0] for m in methods.values()]
            left, inside = MARGIN + example * block, _inside(sample, [frame], row, au)
            sheet.tiles(left, row, picture, maps, inside, f"p {seen.probs[frame, row]:.2f}")
    return sheet.picture


def mean_sheet(title: str, seen: Look, data: FrameDataModule, sample: Sample) -> Image.Image:
    """For each AU the mean of all frames that show it, as it is and under the mean of their maps."""
    methods = _methods(seen)
    half = -(-len(data.aus) // 2)
    block = MARGIN + (1 + len(methods)) * (TILE + GAP) + WIDE_GAP
    sheet = _Sheet((2 * block, half), f"{title}: means over all frames that show each AU", sample)
    faces = _mean_faces(data, sample)
    for number, au in enumerate(data.aus):
        left, row = number // half * block, number % half
        if row == 0:
            sheet.headings(left + MARGIN, ["mean frame", *methods])
        present = np.flatnonzero(sample.shown[:, number])
        sheet.label(left, row, au, f"{len(present)} frames")
        if len(present):
            maps = [_mean_map(of_method, present, number) for of_method in methods.values()]
            inside = _inside(sample, present, number, au)
            sheet.tiles(left + MARGIN, row, faces[number], maps, inside)
    return sheet.picture


def _methods(seen: Look) -> dict[str, Maps]:
    own = {} if seen.attention is None else {"attention": seen.attention}
    return own | {"Grad-CAM": seen.grad_cam}


def _mean_faces(data: FrameDataModule, sample: Sample) -> Pixels:
    """(num_aus, H, W, 3), black for an AU that no frame shows."""
    shown = sample.shown.astype(np.float32)
    total = np.zeros((shown.shape[1], data.image_size, data.image_size, 3), np.float32)
    for part in np.array_split(np.arange(len(shown)), -(-len(shown) // _AT_ONCE)):
        total += np.tensordot(shown[part].T, data.frames("val", sample.rows[part]).astype(np.float32), 1)
    mean = total / np.maximum(shown.sum(0), 1)[:, None, None, None]
    return np.asarray(mean.round(), np.uint8)


def _mean_map(maps: Maps, present: npt.NDArray[np.int64], au: int) -> npt.NDArray[np.float64]:
    total = np.zeros((GRID, GRID))
    for part in np.array_split(present, -(-len(present) // _AT_ONCE)):
        total += maps.on_grid(part, np.full(len(part), au)).sum(0)
    return total / len(present)


def _inside(sample: Sample, frames: npt.ArrayLike, column: int, au: int) -> Cells:
    """(GRID, GRID) region that an AU moved in some frames on average, or else where it is known to show."""
    if sample.moved is not None:
        return region(relative(sample.moved[np.asarray(frames), column].mean(0)))
    middle = (np.arange(GRID) + 0.5) * CROP_SIZE / GRID
    inside = np.zeros((GRID, GRID), bool)
    for x0, y0, x1, y1 in REGIONS.get(au, ()):
        inside |= np.outer((y0 <= middle) & (middle < y1), (x0 <= middle) & (middle < x1))
    return inside


class _Sheet:
    """Rows of tiles, labelled at the left, under a title and a line on how to read them."""

    def __init__(self, size: tuple[int, int], title: str, sample: Sample) -> None:
        width, rows = size
        self.picture = Image.new("RGB", (width, HEADER + rows * (TILE + GAP)), PAPER)
        self.draw = ImageDraw.Draw(self.picture)
        self.bold, self.small = ImageFont.load_default(16), ImageFont.load_default(12.5)
        outline = (
            "the AU's usual region"
            if sample.moved is None
            else "where the AU moved the surface by half of its maximum or more"
        )
        self.draw.text((8, 6), title, INK, self.bold)
        self.draw.text((8, 28), f"Dark: little, yellow: most. Outline: {outline}.", FAINT, self.small)

    def headings(self, left: int, names: list[str]) -> None:
        for column, name in enumerate(names):
            middle = left + column * (TILE + GAP) + TILE / 2
            self.draw.text((middle, HEADER - 5), name, INK, self.small, anchor="ms")

    def label(self, left: int, row: int, au: int, more: str) -> None:
        top = HEADER + row * (TILE + GAP) + TILE / 2
        self.draw.text((left + 8, top - 20), au_column(au), INK, self.bold)
        for line, text in enumerate((NAMES.get(au, ""), more)):
            self.draw.text((left + 8, top + 16 * line), text, FAINT, self.small)

    def tiles(
        self,
        left: int,
        row: int,
        picture: Pixels,
        maps: list[npt.NDArray[np.float64]],
        inside: Cells,
        caption: str = "",
    ) -> None:
        """A picture, then the same under each map, all with the outline of the cells inside."""
        large = np.asarray(Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS))
        for column, tile in enumerate([large, *(overlay(large, cells) for cells in maps)]):
            x, y = left + column * (TILE + GAP), HEADER + row * (TILE + GAP)
            self.picture.paste(Image.fromarray(tile), (x, y))
            self._outline(x, y, inside)
        below = left + 5, HEADER + row * (TILE + GAP) + TILE - 18
        self.draw.text(below, caption, PAPER, self.small, stroke_width=2, stroke_fill=INK)

    def _outline(self, left: int, top: int, inside: Cells) -> None:
        framed = np.pad(inside, 1)
        for y, x in np.argwhere(framed[1:] != framed[:-1]):  # borders between rows y - 1 and y
            start = left + (x - 1) * CELL
            self.draw.line((start, top + y * CELL, start + CELL, top + y * CELL), OUTLINE)
        for y, x in np.argwhere(framed[:, 1:] != framed[:, :-1]):
            start = top + (y - 1) * CELL
            self.draw.line((left + x * CELL, start, left + x * CELL, start + CELL), OUTLINE)
