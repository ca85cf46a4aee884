"""Scores of maps: known answers, brute force and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from aunet.localisation.scores import (
    MEASURES,
    SHARE,
    energy,
    pointing,
    rank_correlation,
    region,
    relative,
    scores,
)

# Few different values, so that many are equal; multiples of 1/4, so that sums are exact.
quarters = st.integers(0, 6).map(lambda value: value / 4)
grids = arrays(np.float64, (3, 4, 4), elements=quarters)


def displacement():
    """Two AUs in tenths of a millimetre: one moves a corner, the other a row, twice as far at its left."""
    moved = np.zeros((2, 6, 6), np.uint8)
    moved[0, :2, :2] = 200
    moved[1, 4] = [40, 40, 40, 19, 20, 10]
    return moved


def test_regions_are_the_cells_that_moved_by_half_of_the_maximum():
    inside = region(relative(displacement()))
    assert SHARE == 0.5
    assert inside[0].sum() == 4
    assert inside[0, :2, :2].all()
    assert np.argwhere(inside[1]).tolist() == [[4, 0], [4, 1], [4, 2], [4, 4]]
    assert (region(relative(displacement()).max(0)) == inside.any(0)).all()


def test_where_nothing_moved_there_is_no_region():
    moved = relative(np.zeros((1, 6, 6), np.uint8))
    assert (moved == 0).all()
    assert not region(moved).any()


def test_a_map_that_is_the_region_scores_full_marks():
    moved = relative(displacement())[[0]]  # where all that moved moved alike
    np.testing.assert_allclose(scores(moved / moved.sum(), moved), [[1, 1, 1]])
    assert MEASURES == ("energy", "pointing", "rank")


def test_a_uniform_map_scores_the_regions_share_of_the_picture():
    moved = relative(displacement())
    found = scores(np.full((2, 6, 6), 1 / 36), moved)
    np.testing.assert_allclose(found, [[4 / 36, 4 / 36, 0], [4 / 36, 4 / 36, 0]])


def test_a_map_that_avoids_the_region_scores_nothing():
    moved = relative(displacement())
    away = np.where(moved > 0, 0.0, 1.0)
    found = scores(away / away.sum((1, 2), keepdims=True), moved)
    assert (found[:, :2] == 0).all()
    assert found[0, 2] == pytest.approx(-1)


def test_of_several_maxima_the_share_inside_counts():
    maps = np.zeros((1, 6, 6))
    maps[0, 0, 0] = maps[0, 1, 1] = maps[0, 5, 5] = maps[0, 4, 4] = 0.2
    maps[0, 2, 2] = 0.1
    assert pointing(maps, region(relative(displacement()))[[0]]).tolist() == [0.5]


@settings(max_examples=60, deadline=None)
@given(grids, arrays(np.bool_, (3, 4, 4)))
def test_energy_and_pointing_equal_their_definition(maps, inside):
    for found, part, cells in zip(energy(maps, inside), maps, inside, strict=True):
        assert found == sum(part[y, x] for y, x in np.argwhere(cells))
    for found, part, cells in zip(pointing(maps, inside), maps, inside, strict=True):
        best = [(y, x) for y, x in np.ndindex(4, 4) if part[y, x] == part.max()]
        assert found == pytest.approx(sum(cells[place] for place in best) / len(best))


@pytest.mark.filterwarnings("ignore:An input array is constant")
@settings(max_examples=100, deadline=None)
@given(grids, grids)
def test_rank_correlation_is_scipys(one, other):
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(rank_correlation(one, other), np.nan_to_num(expected), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(grids, grids)
def test_rank_correlation_knows_the_order_only(one, other):
    found = rank_correlation(one, other)
    np.testing.assert_allclose(rank_correlation(np.exp(one), other), found, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(-one, other), -found, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(other, one), found, atol=1e-12)
