"""One row for each face of each frame, and for each frame without one: as records, and as named columns."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

POINTS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
"""Names of the five points; sides are the person's own, so that the right eye is on the image's left."""

Floats = npt.NDArray[np.floating]
Postprocess = Callable[[Floats, Floats], tuple[Floats, npt.NDArray[np.int8]]]
"""(probabilities (n, num_aus) of one face in the order of time, NaN where it was not seen; seconds (n,)) ->
(probabilities, occurrence in {0, 1, -1}), see ``aunet.postprocess``."""

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


def postprocessed(rows: npt.NDArray[np.void], postprocess: Postprocess | None) -> npt.NDArray[np.void]:
    """Post-processes each face of a video by itself, from the first frame on in which it was seen.

    Where it was not seen and a probability was filled in, it gets a row that has no box and no points.

    Args:
        rows: (n,) records of a video, or of a picture, in the order of their frames.
        postprocess: None: the rows stay as they are.

    Returns:
        Records in the order of frames, and then of faces.
    """
    if postprocess is None:
        return rows
    frames, first = np.unique(rows["frame"], return_index=True)
    times = rows["time_s"][first]
    seconds = np.nan_to_num(times)  # a picture has none; those of videos never go back
    parts = []
    for face in np.unique(rows["face"][rows["face"] >= 0]):
        seen = rows[rows["face"] == face]
        places = np.searchsorted(frames, seen["frame"])
        span = slice(places[0], len(frames))  # what is filled in behind it is no matter of what follows
        track = empty_rows(span.stop - span.start, rows["probs"].shape[1])
        track["frame"], track["time_s"], track["face"] = frames[span], times[span], face
        track[places - span.start] = seen
        track["probs"], track["occurrence"] = postprocess(track["probs"], seconds[span])
        parts.append(track[~np.isnan(track["probs"]).all(axis=1)])
    filled = np.concatenate([rows[:0], *parts])
    empty = rows[(rows["face"] < 0) & ~np.isin(rows["frame"], filled["frame"])]
    whole = np.concatenate([filled, empty])
    return whole[np.lexsort((whole["face"], whole["frame"]))]
