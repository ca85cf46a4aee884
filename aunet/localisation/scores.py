"""How well maps over the face agree with where an AU moved it. Pure functions on arrays.

Maps sum to 1 over their cells and are compared with the displacement of the surface in the same cells, which
is first divided by its maximum. The region of an AU are the cells that it moved by at least half of what it
moved any cell (``SHARE``).

Three scores, each of a frame and an AU:

- energy: share of the map that lies inside the region (Wang et al., "Score-CAM", CVPR Workshops 2020). That
  of a uniform map is the region's share of the crop.
- pointing: whether the map's maximum lies inside (Zhang et al., "Top-down neural attention by excitation
  backprop", ECCV 2016); of several equal maxima the share that does, which is what one of them, drawn at
  random, would give.
- rank: Spearman's rank correlation of map and displacement over all cells, equal values with their mean
  rank. A map that is the same everywhere says nothing of ranks and scores 0.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SHARE = 0.5
"""Share of its largest displacement from which a cell belongs to an AU's region."""

MEASURES = ("energy", "pointing", "rank")
"""Names of the scores, in the order of ``scores``."""


def relative(displacement: npt.NDArray[np.generic]) -> Array:
    """Displacements (..., n, n) divided by each map's maximum; all 0 where nothing moved."""
    moved = displacement.astype(np.float64)
    most = moved.max((-2, -1), keepdims=True)
    share: Array = np.divide(moved, most, out=np.zeros_like(moved), where=most > 0)
    return share


def region(moved: Array) -> npt.NDArray[np.bool_]:
    """Cells (..., n, n) that belong to the region, of what ``relative`` gives.

    The largest of the displacements of several AUs gives the union of their regions.
    """
    return moved >= SHARE


def scores(maps: Array, moved: Array) -> Array:
    """The three scores of each map.

    Args:
        maps: (K, n, n), each summing to 1.
        moved: (K, n, n) in [0, 1], as ``relative`` gives it.

    Returns:
        (K, 3) energy and pointing in [0, 1], rank in [-1, 1].
    """
    inside = region(moved)
    return np.stack([energy(maps, inside), pointing(maps, inside), rank_correlation(maps, moved)], 1)


def energy(maps: Array, inside: npt.NDArray[np.bool_]) -> Array:
    """(K,) share of each map (K, n, n) on the cells inside (K, n, n)."""
    share: Array = (maps * inside).sum((1, 2))
    return share


def pointing(maps: Array, inside: npt.NDArray[np.bool_]) -> Array:
    """(K,) share of each map's greatest cells that lie inside."""
    greatest = maps == maps.max((1, 2), keepdims=True)
    share: Array = (greatest & inside).sum((1, 2)) / greatest.sum((1, 2))
    return share


def rank_correlation(maps: Array, moved: Array) -> Array:
    """(K,) Spearman's correlation over the cells; 0 where one of the two is the same everywhere."""
    one, other = _centred_ranks(maps), _centred_ranks(moved)
    norm = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    found: Array = np.divide((one * other).sum(1), norm, out=np.zeros_like(norm), where=norm > 0)
    return found


def _centred_ranks(maps: Array) -> Array:
    """(K, n n) ranks less their mean; equal values share the mean of theirs."""
    flat = maps.reshape(len(maps), -1)
    order = flat.argsort(1)
    ordered = np.take_along_axis(flat, order, 1)
    place = np.arange(flat.shape[1])
    new = np.ones_like(ordered, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    last = np.ones_like(new)
    last[:, :-1] = new[:, 1:]
    # Each place's run of equal values begins at the last new one up to it, and ends at the next last one.
    begin = np.maximum.accumulate(np.where(new, place, 0), 1)
    end = np.minimum.accumulate(np.where(last, place, flat.shape[1])[:, ::-1], 1)[:, ::-1]
    ranks = np.empty_like(ordered)
    np.put_along_axis(ranks, order, (begin + end) / 2, 1)
    return ranks - (flat.shape[1] - 1) / 2
