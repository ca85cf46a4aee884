"""Reads where each AU moved the face, of frames that a table lists; see aunet.data.rendered for the files."""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from aunet.data.faults import DataError
from aunet.data.frames import FrameTable
from aunet.data.rendered.behaviour import LABEL_THRESHOLD
from aunet.data.rendered.scene import REGION_CELLS
from aunet.data.rendered.track import TRUTH
from aunet.facs import au_column


def has_truth(root: str | Path) -> bool:
    """Whether a data set tells where AUs moved the face, as rendered ones do; packed stores do not."""
    return (Path(root) / TRUTH).is_dir()


def read_displacement(
    root: str | Path, table: FrameTable, rows: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint8]:
    """How far each AU alone moved what is seen in each 4x4 pixels.

    Args:
        root: Folder of the rendered data set.
        table: A split of it.
        rows: (n,) rows of the table.

    Returns:
        (n, num_aus, 28, 28) in tenths of a millimetre, AUs in the table's order.

    Raises:
        DataError: A truth file is missing or damaged, lacks an AU or a frame, or contradicts the labels.
    """
    moved = np.zeros((len(rows), len(table.aus), REGION_CELLS, REGION_CELLS), np.uint8)
    video = table.video[rows]
    for number in np.unique(video):
        here = video == number
        file = _file(Path(root), table.videos[number])
        aus, intensity, regions = _read(file)
        if missing := set(table.aus) - set(aus):
            raise DataError(f"{file}: knows nothing of {', '.join(map(au_column, sorted(missing)))}")
        columns = [aus.index(au) for au in table.aus]
        frames, labels = table.frame[rows[here]], table.labels[rows[here]]
        if frames.min() < 1 or frames.max() > len(regions):
            raise DataError(f"{file}: has {len(regions)} frames, the data set frame {frames.max()}")
        present = intensity[frames - 1][:, columns] >= LABEL_THRESHOLD
        wrong = (labels >= 0) & (present != (labels == 1))
        if wrong.any():
            frame, au = frames[wrong.any(1)][0], table.aus[int(np.flatnonzero(wrong.any(0))[0])]
            raise DataError(
                f"{file}: contradicts the labels (frame {frame}, {au_column(au)}): truth and annotations are "
                f"not of the same set; render it again"
            )
        moved[here] = regions[frames - 1][:, columns]
    return moved


def _file(root: Path, video: str) -> Path:
    if Path(video).name != video:
        raise DataError(f"{root}: video {video!r} is no name of a truth file")
    return root / TRUTH / f"{video}.npz"


def _read(file: Path) -> tuple[list[int], npt.NDArray[np.floating], npt.NDArray[np.uint8]]:
    """AU numbers, intensity (frames, AUs) and regions (frames, AUs, 28, 28) of a truth file."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            aus, intensity, regions = arrays["aus"], arrays["intensity"], arrays["regions"]
    # NumPy's, for files that are missing, cut off, no archive, or without one of the arrays.
    except (OSError, BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: not readable ({error}); render the set again") from None
    expected = (*intensity.shape, REGION_CELLS, REGION_CELLS)
    if intensity.ndim != 2 or intensity.shape[1:] != aus.shape or regions.shape != expected:
        raise DataError(
            f"{file}: regions {regions.shape}, intensity {intensity.shape} and {aus.shape} AUs do not fit; "
            f"render the set again"
        )
    if regions.dtype != np.uint8 or intensity.dtype.kind != "f" or aus.dtype.kind not in "iu":
        raise DataError(f"{file}: holds arrays of other kinds than the renderer's; render the set again")
    return [int(au) for au in aus], intensity, regions
