"""One row for each face of each frame, and for each frame without one: as records, and as named columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

POINTS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
"""Names of the five points; sides are the person's own, so that the right eye is on the image's left."""

Columns = dict[str, npt.NDArray[Any]]
"""Arrays of equal length by name, as pandas.DataFrame takes them; see ``columns``."""


def row_type(num_aus: int) -> np.dtype[Any]:
    """Type of the records: ``face`` is -1 and what belongs to a face NaN where there is none."""
    return np.dtype(
        [
            ("frame", "<i8"),
            ("time_s", "<f8"),
            ("face", "<i4"),
            ("score", "<f4"),
            ("box", "<f4", (4,)),
            ("points", "<f4", (5, 2)),
            ("probs", "<f4", (num_aus,)),
            ("occurrence", "i1", (num_aus,)),
        ]
    )


def empty_rows(count: int, num_aus: int) -> npt.NDArray[np.void]:
    """Records of frames in which nothing is known yet."""
    rows = np.zeros(count, row_type(num_aus))
    for name in ("time_s", "score", "box", "points", "probs"):
        rows[name] = np.nan
    rows["face"] = rows["occurrence"] = -1
    return rows


def columns(rows: npt.NDArray[np.void], names: Sequence[str], aus: Sequence[int]) -> Columns:
    """The rows as columns, in the order of the file.

    Args:
        rows: (n,) records.
        names: (n,) name of the input of each.
        aus: AU number of each probability.

    Returns:
        ``input``; ``frame``, from 1; ``time_s``, NaN of pictures; ``face``, -1 where there is none;
        ``face_score``; ``face_x0`` ... ``face_y1``; ``right_eye_x`` ... ``left_mouth_y`` in pixels;
        ``AU01_prob`` ... in [0, 1]; ``AU01`` ... 1 present, 0 absent, -1 unknown. What belongs to a face is
        NaN or -1 where there is none.
    """
    table: Columns = {"input": np.array(names, dtype=object)}
    table |= {name: rows[name] for name in ("frame", "time_s", "face")}
    table["face_score"] = rows["score"]
    table |= {f"face_{side}": rows["box"][:, i] for i, side in enumerate(("x0", "y0", "x1", "y1"))}
    for i, point in enumerate(POINTS):
        table |= {f"{point}_x": rows["points"][:, i, 0], f"{point}_y": rows["points"][:, i, 1]}
    table |= {f"AU{au:02d}_prob": rows["probs"][:, i] for i, au in enumerate(aus)}
    table |= {f"AU{au:02d}": rows["occurrence"][:, i] for i, au in enumerate(aus)}
    return table
