"""Folds and inner splits: the published lists, and that nobody lies in two splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aunet.data.faults import DataError
from aunet.data.folds import BP4D_PARTS, DISFA_PARTS, fold_splits, inner_split


@pytest.mark.parametrize(("parts", "sizes"), [(DISFA_PARTS, [9, 9, 9]), (BP4D_PARTS, [14, 14, 13])])
def test_parts_hold_every_subject_once(parts, sizes):
    assert [len(part) for part in parts] == sizes
    assert len({subject for part in parts for subject in part}) == sum(sizes)


def test_subjects_are_those_of_the_data_sets():
    # DISFA has no SN014, SN015, SN019, SN020 and SN022; BP4D has 23 women and 18 men.
    disfa = sorted(int(subject[2:]) for part in DISFA_PARTS for subject in part)
    assert disfa == sorted({*range(1, 33)} - {14, 15, 19, 20, 22})
    bp4d = sorted(subject for part in BP4D_PARTS for subject in part)
    assert bp4d == [f"F{n:03d}" for n in range(1, 24)] + [f"M{n:03d}" for n in range(1, 19)]


@pytest.mark.parametrize("parts", [DISFA_PARTS, BP4D_PARTS])
@pytest.mark.parametrize(("fold", "tested"), [(1, 2), (2, 1), (3, 0)])
def test_fold_tests_its_part_and_validates_on_others(parts, fold, tested):
    splits = fold_splits(parts, fold)
    of = {name: {s for s, split in splits.items() if split == name} for name in ("train", "val", "test")}
    assert of["test"] == set(parts[tested])
    assert of["val"]
    assert of["train"] | of["val"] == {s for part in parts for s in part} - of["test"]
    assert len(of["val"]) == round(0.2 * len(of["train"] | of["val"]))


def test_split_is_the_same_for_ever():
    validated = [s for s, split in sorted(fold_splits(DISFA_PARTS, 1).items()) if split == "val"]
    assert validated == ["SN009", "SN012", "SN016", "SN031"]


def test_seed_decides_the_inner_split_and_not_the_test_part():
    splits = [fold_splits(BP4D_PARTS, 2, 0.2, seed) for seed in range(5)]
    assert len({tuple(sorted(s for s, split in each.items() if split == "test")) for each in splits}) == 1
    assert len({tuple(sorted(s for s, split in each.items() if split == "val")) for each in splits}) == 5


@pytest.mark.parametrize("fold", [0, 4, -1, "one"])
def test_unknown_fold(fold):
    with pytest.raises(DataError, match=rf"data.read.fold={fold} must be 1 to 3"):
        fold_splits(DISFA_PARTS, fold)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(DataError, match=r"data\.read\.val_fraction"):
        inner_split(["a", "b"], fraction)


@pytest.mark.parametrize("groups", [[], ["a"], ["a", "a"]])
def test_too_few_groups(groups):
    with pytest.raises(DataError, match="cannot be split"):
        inner_split(groups, 0.2)


@given(
    st.lists(st.text(), min_size=2, unique=True),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(),
    st.randoms(),
)
def test_inner_split_of_any_groups(groups, fraction, seed, random):
    splits = inner_split(groups, fraction, seed)
    assert set(splits) == set(groups)
    validated = list(splits.values()).count("val")
    assert set(splits.values()) == {"train", "val"}
    assert abs(validated - fraction * len(groups)) <= 1
    shuffled = random.sample(groups, len(groups))
    assert inner_split(shuffled + groups, fraction, seed) == splits
