"""One frame with what was predicted: boxes and attention in it, beside it each face's AUs, a legend below."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from aunet.drawing.attend import Maps28, lay_over
from aunet.drawing.rows import Rows, seen
from aunet.overlays import heat

INK, SOFT, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"
PRESENT, ABSENT = "#0072b2", "#d0d0d0"

_LOW, _HIGH, _WIDE = 360, 1080, 1920
"""Frames are enlarged to the first height by whole numbers, and shrunk to the others."""

_COLUMNS = 3
"""Most columns of faces beside a frame; then rather a higher drawing."""

_SCALES = {"label": 3.3, "bar": 6.6, "number": 2.6, "word": 4.6, "gap": 0.7}
"""Widths of a face's columns, in sizes of the letters."""


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which is there wherever it is."""
    file = Path(mpl.get_data_path()) / "fonts/ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return ImageFont.truetype(str(file), size)


def _scale(width: int, height: int) -> float:
    """By how much a frame is enlarged."""
    most = min(_HIGH / height, _WIDE / width)
    return min(most, float(max(1, math.ceil(_LOW / height)))) if most > 1 else most


class Sheet:
    """The drawing of all frames of a file: of one size, with everything at its place.

    Args:
        size: (width, height) of the first frame; frames of another size are fitted into its place.
        aus: AU numbers.
        thresholds: (num_aus,) from which on each counts as present.
        places: Number of faces beside the frame.
        attends: Whether there are attention maps.
        side: Of crops, in pixels.
        crops: Frames are aligned crops: the whole frame is the face.

    Attributes:
        size: (width, height) of the drawing, both even, as video needs them.
    """

    def __init__(
        self,
        size: tuple[int, int],
        aus: Sequence[int],
        thresholds: npt.NDArray[np.floating],
        places: int,
        attends: bool,
        side: int,
        crops: bool = False,
    ) -> None:
        scale = _scale(*size)
        self.aus, self.thresholds, self.side, self.crops = aus, thresholds, side, crops
        self.frame = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        self.letter = max(13, round(self.frame[1] / 42))
        self.line = round(1.4 * self.letter)
        self.column = round(sum(_SCALES.values()) * self.letter) + 2 * self._gap
        self.block = (len(aus) + 1) * self.line + self._gap
        fitting = (self.frame[1] - self._gap) // self.block
        self.in_column = max(1, fitting, math.ceil(places / _COLUMNS))
        columns = math.ceil(max(1, places) / self.in_column)
        width = self.frame[0] + columns * self.column
        height = max(self.frame[1], min(self.in_column, max(1, places)) * self.block + self._gap)
        self._foot = height
        legend, lines = self._legend(width, attends)
        self.size = (width + width % 2, (height + lines * self.line + self._gap + 1) // 2 * 2)
        self._empty = Image.new("RGB", self.size, PAPER)
        self._empty.paste(legend, (0, height + self._gap // 2))

    @property
    def _gap(self) -> int:
        return self.letter // 2

    def draw(
        self,
        pixels: npt.NDArray[np.uint8],
        rows: Rows,
        places: Sequence[int | None],
        maps: Maps28,
    ) -> Image.Image:
        """Draws a frame.

        Args:
            pixels: (H, W, 3) RGB.
            rows: Its records.
            places: For each place beside the frame, which row is there.
            maps: (n, 28, 28) attention of the faces that are seen, or none.
        """
        sheet = self._empty.copy()
        picture = Image.fromarray(pixels)
        scale = min(self.frame[0] / picture.width, self.frame[1] / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX)
        faces = rows[seen(rows, self.crops)]
        for face, attention in zip(faces, maps, strict=False):
            lay_over(picture, attention, None if self.crops else face["points"] * scale, self.side)
        pen = ImageDraw.Draw(picture)
        for face in () if self.crops else faces:
            self._box(pen, face, scale)
        sheet.paste(picture, (0, 0))
        pen = ImageDraw.Draw(sheet)
        for place, row in enumerate(places):
            column, line = divmod(place, self.in_column)
            left = self.frame[0] + column * self.column + self._gap
            self._bars(pen, left, line * self.block + self._gap, rows[row] if row is not None else None)
        if not places:
            pen.text((self.frame[0] + self._gap, self._gap), "no face", SOFT, _font(self.letter))
        self._say_when(pen, rows, (rows["face"] >= 0).sum() - len([row for row in places if row is not None]))
        return sheet

    def _box(self, pen: ImageDraw.ImageDraw, face: np.void, scale: float) -> None:
        """A box that is seen on any ground, with the face's number."""
        x0, y0, x1, y1 = (float(side) * scale for side in face["box"])
        thick = max(2, self.letter // 8)
        pen.rectangle((x0 - thick, y0 - thick, x1 + thick, y1 + thick), outline="black", width=3 * thick)
        pen.rectangle((x0, y0, x1, y1), outline="white", width=thick)
        font, text = _font(self.letter, bold=True), f"face {face['face']}"
        width, height = pen.textlength(text, font) + self.letter, self.line
        top = y0 - thick - height if y0 - thick >= height else y0 + thick
        pen.rectangle((x0 - thick, top, x0 - thick + width, top + height), fill="black")
        pen.text((x0 - thick + width / 2, top + height / 2), text, "white", font, anchor="mm")

    def _bars(self, pen: ImageDraw.ImageDraw, left: int, top: int, face: np.void | None) -> None:
        """What is said of a face, or that it is not seen."""
        plain, bold = _font(self.letter), _font(self.letter, bold=True)
        if face is None:
            pen.text((left, top), "face not seen", SOFT, plain)
            return
        pen.text((left, top), f"face {face['face']}", INK, bold)
        if not seen(np.array([face]), self.crops)[0]:
            after = pen.textlength(f"face {face['face']} ", bold)
            pen.text((left + after, top), "not seen, filled in", SOFT, plain)
        for line, (au, threshold) in enumerate(zip(self.aus, self.thresholds, strict=True), 1):
            middle = top + line * self.line + self.line // 2
            prob, occurs = float(face["probs"][line - 1]), int(face["occurrence"][line - 1])
            font, ink = (bold, INK) if occurs == 1 else (plain, SOFT)
            pen.text((left, middle), f"AU{au}", INK, font, anchor="lm")
            start = left + _SCALES["label"] * self.letter
            self._bar(pen, start, middle, prob, occurs == 1, float(threshold))
            end = start + (_SCALES["bar"] + _SCALES["number"]) * self.letter
            pen.text((end, middle), "–" if math.isnan(prob) else f"{prob:.2f}", ink, font, anchor="rm")
            word = {1: "present", 0: "absent"}.get(occurs, "unknown")
            pen.text((end + _SCALES["gap"] * self.letter, middle), word, ink, font, anchor="lm")

    def _bar(
        self,
        pen: ImageDraw.ImageDraw,
        start: float,
        middle: float,
        prob: float,
        present: bool,
        threshold: float,
        length: float = 0,
    ) -> None:
        """A probability from 0 to 1: filled dark if the AU is present, light and outlined if not."""
        length = length or _SCALES["bar"] * self.letter
        half = round(0.36 * self.letter)
        pen.line((start, middle + half, start + length, middle + half), SOFT)
        if not math.isnan(prob):
            box = (start, middle - half, start + max(1.0, prob * length), middle + half)
            pen.rectangle(box, fill=PRESENT if present else ABSENT, outline=INK if present else SOFT)
        at = start + threshold * length
        for colour, width in (("white", 3), (INK, 1)):  # seen on the bar, too
            pen.line((at, middle - half - 3, at, middle + half + 3), colour, width)

    def _say_when(self, pen: ImageDraw.ImageDraw, rows: Rows, more: int) -> None:
        """Time and number of a video's frame, and how many faces have no place."""
        seconds = float(rows["time_s"][0])
        said = [] if math.isnan(seconds) else [f"{seconds:.2f} s, frame {rows['frame'][0]}"]
        if more > 0:
            said.append(f"{more} more faces")
        pen.text((self._gap, self._foot + self._gap), " · ".join(said), INK, _font(self.letter))

    def _legend(self, width: int, attends: bool) -> tuple[Image.Image, int]:
        """What bars and colours mean, below the line with the time; and the number of lines of both."""
        font, gap = _font(self.letter), self.letter
        bar = 3 * self.letter
        items = [("present", 0.8, True), ("absent", 0.3, False)]
        about = "attention: little" if attends else "this network has no attention to show"
        legend = Image.new("RGB", (width, 6 * self.line), PAPER)
        pen = ImageDraw.Draw(legend)
        x, line = self._gap, 1

        def room(length: float) -> tuple[float, float]:
            """Where the next item begins, on the next line if this one is full."""
            nonlocal x, line
            if x > self._gap and x + length > width:
                x, line = self._gap, line + 1
            at = x, line * self.line + self.line // 2
            x += round(length) + gap
            return at

        words = "bars: probability from 0 to 1"
        at, middle = room(pen.textlength(words, font))
        pen.text((at, middle), words, INK, font, anchor="lm")
        for text, prob, present in items:
            at, middle = room(bar + self._gap + pen.textlength(text, font))
            self._bar(pen, at, middle, prob, present, 0.5, bar)
            pen.text((at + bar + self._gap, middle), text, INK, font, anchor="lm")
        at, middle = room(self._gap + pen.textlength("threshold", font))
        pen.line((at, middle - self.letter // 2, at, middle + self.letter // 2), INK)
        pen.text((at + self._gap, middle), "threshold", INK, font, anchor="lm")
        ramp = bar + 2 * self._gap + pen.textlength("much", font) if attends else 0
        at, middle = room(pen.textlength(about, font) + ramp)
        pen.text((at, middle), about, INK, font, anchor="lm")
        if attends:
            at += pen.textlength(about, font) + self._gap
            colours = heat(np.linspace(0, 1, 64)[None], (self.letter, bar))[..., :3].round().astype(np.uint8)
            legend.paste(Image.fromarray(colours), (round(at), round(middle) - self.letter // 2))
            pen.text((at + bar + self._gap, middle), "much", INK, font, anchor="lm")
        return legend, line + 1
