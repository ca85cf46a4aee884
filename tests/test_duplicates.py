"""Near-duplicate frames: found when they are and only then, as a comparison of all pairs says."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aunet.data.duplicates import LARGEST_DIFFERENCE, MEAN_DIFFERENCE, near_duplicates, signatures


def all_pairs(index, queries):
    """First near-duplicate of each query, by comparing everything."""
    found = []
    for query in queries.astype(int):
        difference = np.abs(index.astype(int) - query)
        close = (difference.max(1) <= LARGEST_DIFFERENCE) & (difference.mean(1) <= MEAN_DIFFERENCE)
        found.append(int(np.argmax(close)) if close.any() else -1)
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 60), st.integers(1, 40))
def test_agrees_with_the_comparison_of_all_pairs(seed, size, count, spread):
    """Signatures close together and at the edges of buckets and of the range of values."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (5, 64))

    def around(number):
        noise = rng.integers(-3, 4, (number, 64)) // rng.integers(1, spread + 1, (number, 1))
        return (centres[rng.integers(5, size=number)] + noise).clip(0, 255)

    index, queries = around(size).astype(np.uint8), around(count).astype(np.uint8)
    assert near_duplicates(index, queries).tolist() == (all_pairs(index, queries) if size else [-1] * count)


def face(seed):
    """A smooth picture with some detail."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(
        (112, 112), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(coarse).astype(int) + rng.integers(-8, 9, (112, 112, 3)), 0, 255).astype(
        np.uint8
    )


def jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_compression_again_is_seen_through(quality):
    faces = np.stack([face(seed) for seed in range(20)])
    again = np.stack([jpeg(pixels, quality) for pixels in faces])
    assert near_duplicates(signatures(faces), signatures(again)).tolist() == list(range(20))


def test_other_pictures_are_no_duplicates():
    one, other = (np.stack([face(seed) for seed in range(start, start + 50)]) for start in (0, 50))
    assert (near_duplicates(signatures(one), signatures(other)) == -1).all()
    moved = np.roll(one, 6, axis=2)  # the face has turned
    assert (near_duplicates(signatures(one), signatures(moved)) == -1).all()


@pytest.mark.parametrize("size", [16, 112, 100, 7])
def test_signatures_are_the_brightness_of_cells(size):
    frames = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    found = signatures(frames)
    assert found.shape == (3, 64)
    if size % 8 == 0:
        cell = size // 8
        grey = frames.mean(3).reshape(3, 8, cell, 8, cell).mean((2, 4)).reshape(3, 64)
        assert np.abs(found - grey).max() <= 0.51
