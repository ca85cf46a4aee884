"""Attention maps in the size of a picture, and laid over it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aunet.overlays import enlarged, overlay

GREY = np.full((24, 24, 3), 128, np.uint8)


def spot(row, column, size=4):
    """A map with all its weight on one position."""
    attention = np.zeros((size, size), np.float32)
    attention[row, column] = 1
    return attention


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 1000))
def test_enlarged_maps_are_distributions_too(height, width, seed):
    maps = np.random.default_rng(seed).dirichlet(np.ones(height * width), 3).reshape(3, height, width)
    large = enlarged(maps, (28, 30))
    assert large.shape == (3, 28, 30)
    assert (large >= 0).all()
    np.testing.assert_allclose(large.sum((1, 2)), 1, rtol=1e-5)


def test_weight_stays_where_it_was():
    large = enlarged(spot(0, 3)[None], (28, 28))[0]
    assert large[:7, 21:].sum() > 0.4
    assert large[14:].sum() == 0
    assert np.unravel_index(large.argmax(), large.shape)[0] < 7


def test_overlay_is_brightest_where_attention_is_greatest():
    picture = overlay(GREY, spot(3, 0)).astype(int)
    assert picture.shape == GREY.shape
    assert picture[22, 1].sum() > picture[12, 12].sum()
    # Yellow there, and darker than the picture where there is nothing.
    red, green, blue = picture[22, 1]
    assert min(red, green) > blue
    assert picture[1, 22].sum() < GREY[1, 22].sum()


def test_an_even_map_is_an_even_tint_and_leaves_the_picture():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (24, 24, 3), np.uint8)
    picture = overlay(frame, np.full((2, 2), 0.25))
    change = picture - frame * (1 - 0.15)
    assert np.ptp(change, axis=(0, 1)).max() <= 1 + 1e-6


def test_a_nearly_even_map_does_not_look_like_a_decided_one():
    nearly = np.full((4, 4), 1 / 16)
    nearly[0, 0] += 0.001
    nearly[3, 3] -= 0.001
    faint = overlay(GREY, nearly).astype(int)
    decided = overlay(GREY, spot(0, 0)).astype(int)
    assert np.ptp(faint, axis=(0, 1)).max() < np.ptp(decided, axis=(0, 1)).max() / 4
