"""A picture of what the renderer knows: every AU alone at its apex, on several people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aunet import facs

CELL = 128
"""Side of a face on the sheet, in pixels."""
COLUMNS = 7
GUTTER, LABEL_HEIGHT = 4, 40
PAPER, INK, FAINT = (250, 249, 247), (32, 33, 36), (105, 108, 114)


def contact_sheet(
    path: str | Path,
    people: int = 6,
    *,
    seed: int = 0,
    aus: Sequence[int] = facs.AFFWILD2,
    colours: int = 256,
) -> Path:
    """Draw people, neutral and with each AU alone at full intensity, in labelled columns.

    Args:
        path: PNG to write; its folder is made when missing.
        people: rows in each band, at least 1.
        seed: draws the people; the i-th person of a seed does not depend on ``people``.
        aus: which AUs, in this order.
        colours: size of the PNG's palette, 2 to 256.

    Returns:
        The path.

    Raises:
        ValueError: ``people`` is less than 1, or an AU is not in facs.AFFWILD2.
    """
    if people < 1:
        raise ValueError(f"people: {people} is less than 1; ask for at least one row")
    if unknown := sorted(set(aus) - set(facs.AFFWILD2)):
        raise ValueError(f"aus: {unknown} cannot be rendered; choose from {facs.AFFWILD2}")
    from PIL import Image, ImageDraw, ImageFont

    from aunet.data.rendered import camera, scene
    from aunet.data.rendered.head import load_head, stacked_actions
    from aunet.data.rendered.people import make_person

    head = load_head()
    persons = [make_person(head, np.random.default_rng([seed, i])) for i in range(people)]
    studio = scene.studio()
    columns: list[int | None] = [None, *aus]
    bands = [columns[i : i + COLUMNS] for i in range(0, len(columns), COLUMNS)]
    step, band_height = CELL + GUTTER, LABEL_HEIGHT + people * (CELL + GUTTER)
    sheet = Image.new("RGB", (COLUMNS * step + GUTTER, len(bands) * band_height + GUTTER), PAPER)
    draw = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(17), ImageFont.load_default(12.5)
    for b, band in enumerate(bands):
        for c, au in enumerate(band):
            middle, top = GUTTER + c * step + CELL / 2, b * band_height
            title, caption = ("neutral", "") if au is None else (facs.au_column(au), facs.NAMES[au])
            draw.text((middle, top + 20), title, INK, bold, anchor="ms")
            draw.text((middle, top + 35), caption, FAINT, small, anchor="ms")
            for r, person in enumerate(persons):
                pose = scene.Pose({} if au is None else {au: 1.0, **({25: 1.0} if au == 26 else {})}, {})
                still = np.zeros((5, 2), np.float32)
                fine = scene.render_frame(
                    head, stacked_actions(), person, studio, pose, "resting", still
                ).linear
                face = Image.fromarray(camera.to_srgb(fine).astype(np.uint8)).resize(
                    (CELL, CELL), Image.Resampling.LANCZOS
                )
                sheet.paste(face, (GUTTER + c * step, top + LABEL_HEIGHT + r * step))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
    return path
