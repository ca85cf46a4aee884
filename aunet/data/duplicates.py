"""Finds frames of one split that equal frames of another, or nearly: signs that splits are not independent.

A frame's signature is its brightness in 8x8 cells. Two frames are near-duplicates when no cell differs by
more than 3 grey levels and the mean over the cells by no more than 1: another JPEG quality stays far below
that, another moment of a moving face is above it.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

LARGEST_DIFFERENCE = 3
MEAN_DIFFERENCE = 1.0

_CELLS = 8
_WIDTH = 16.0
"""Grey levels of a bucket; more than twice LARGEST_DIFFERENCE: a query looks into two a block at most."""

_BLOCKS = tuple((y, y + 4, x, x + 2) for y in (0, 4) for x in (0, 2, 4, 6))
STEPS: int = 2 ** len(_BLOCKS)
"""Of a comparison: a block's bucket is one of two."""

_PAIRS_AT_ONCE = 1 << 20

Signatures = npt.NDArray[np.uint8]


def signatures(frames: npt.NDArray[np.uint8]) -> Signatures:
    """(B, H, W, 3) uint8 -> (B, 64) uint8, the brightness of 8x8 cells."""
    grey = torch.from_numpy(frames).permute(0, 3, 1, 2).float().mean(1, keepdim=True)
    return F.adaptive_avg_pool2d(grey, _CELLS).round().byte().flatten(1).numpy()


def near_duplicates(
    index: Signatures, queries: Signatures, advance: Callable[[int], object] = lambda _: None
) -> npt.NDArray[np.int64]:
    """For each query the first row of ``index`` that nearly equals it, or -1.

    Frames are sorted into buckets by the brightness of 2x4 blocks; a query looks into the buckets that its
    near-duplicates can lie in, so that 2 million frames need seconds to minutes and no table of all pairs.

    Args:
        index: (N, 64) signatures.
        queries: (M, 64) signatures.
        advance: Told after each of STEPS equal steps, for progress.
    """
    none = np.iinfo(np.int64).max
    found = np.full(len(queries), none)
    keys = _key(np.floor(_coarse(index) / _WIDTH))
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    coarse = _coarse(queries)
    # A block's mean differs by at most this when no cell differs by more than LARGEST_DIFFERENCE.
    low, high = (np.floor((coarse + side * LARGEST_DIFFERENCE) / _WIDTH) for side in (-1, 1))
    for choice in range(STEPS):
        upper = np.array([choice >> block & 1 for block in range(len(_BLOCKS))], bool)
        rows = np.flatnonzero(((low != high) | ~upper).all(1))  # each bucket once
        wanted = _key(np.where(upper, high[rows], low[rows]))
        first, last = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, side="right")
        for query, candidate in _pairs(rows, first, last):
            close = _close(index[order[candidate]], queries[query])
            match, other = query[close], order[candidate[close]]
            np.minimum.at(found, match, other)
        advance(1)
    found[found == none] = -1
    return found


def _coarse(cells: Signatures) -> npt.NDArray[np.float64]:
    """(N, 8) mean brightness of 2x4 blocks."""
    grid = cells.reshape(-1, _CELLS, _CELLS)
    return np.stack([grid[:, a:b, c:d].mean((1, 2)) for a, b, c, d in _BLOCKS], 1)


def _key(buckets: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.asarray((buckets + 1).astype(np.int64) @ (64 ** np.arange(buckets.shape[1])))


def _close(a: Signatures, b: Signatures) -> npt.NDArray[np.bool_]:
    difference = np.abs(a.astype(np.int16) - b)
    return np.asarray((difference.max(1) <= LARGEST_DIFFERENCE) & (difference.mean(1) <= MEAN_DIFFERENCE))


def _pairs(
    rows: npt.NDArray[np.int64], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(query, candidate) of all buckets, a limited number at once."""
    sizes = last - first
    ends = np.cumsum(sizes)
    start = 0
    while start < len(rows):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _PAIRS_AT_ONCE, side="right")))
        part = slice(start, stop)
        query = np.repeat(rows[part], sizes[part])
        within = np.arange(len(query)) - np.repeat(ends[part] - sizes[part] - base, sizes[part])
        yield query, np.repeat(first[part], sizes[part]) + within
        start = stop
