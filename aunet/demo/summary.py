"""What was found in a file, for the page."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from aunet.drawing.rows import MOST_FACES, Rows
from aunet.facs import NAMES


def summary(chunks: Iterable[Rows], aus: Sequence[int]) -> dict[str, Any]:
    """Sums up a file's rows.

    Args:
        chunks: Its records, at least one.
        aus: AU numbers.

    Returns:
        ``kind``, "picture" or "video"; ``frames`` and ``empty``, those without a face; ``seconds`` of the
        last one; ``faces``, those seen most often, each with its number ``face``, ``frames``, and ``aus``:
        ``au``, ``name``, mean ``prob``, and ``share`` of the frames in which it is present; ``more``, how
        many faces are left out.
    """
    faces: dict[int, list[Any]] = {}
    frames = empty = 0
    before, seconds = -1, float("nan")
    for rows in chunks:
        frames += int((np.diff(rows["frame"], prepend=before) != 0).sum())
        empty += int((rows["face"] < 0).sum())
        before, seconds = int(rows["frame"][-1]), float(rows["time_s"][-1])
        for face in np.unique(rows["face"][rows["face"] >= 0]).tolist():
            mine = rows[rows["face"] == face]
            sums = faces.setdefault(face, [0, 0.0, 0.0])
            sums[0] += len(mine)
            sums[1] = sums[1] + mine["probs"].astype(np.float64).sum(0)
            sums[2] = sums[2] + (mine["occurrence"] == 1).sum(0)
    most = sorted(sorted(faces, key=lambda face: (-faces[face][0], face))[:MOST_FACES])
    is_picture = bool(np.isnan(seconds))
    return {
        "kind": "picture" if is_picture else "video",
        "frames": frames,
        "empty": empty,
        "seconds": None if is_picture else seconds,
        "faces": [_face(face, faces[face], aus) for face in most],
        "more": len(faces) - len(most),
    }


def _face(face: int, sums: Sequence[Any], aus: Sequence[int]) -> dict[str, Any]:
    frames, probs, present = sums
    of_aus = [
        {"au": f"AU{au}", "name": NAMES[au], "prob": float(prob) / frames, "share": float(count) / frames}
        for au, prob, count in zip(aus, probs, present, strict=True)
    ]
    return {"face": face, "frames": frames, "aus": of_aus}
