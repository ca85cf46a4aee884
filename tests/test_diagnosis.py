"""Each failure is told, in the words that help, and nothing is told of a healthy run."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aunet import diagnosis

PARTS = ("backbone", "attention", "classifier")
AUS = ("AU1", "AU2", "AU4")
EPOCH = {
    "gradients": dict.fromkeys(PARTS, 1.0),
    "update": 1e-3,
    "dead": {"backbone.relu": 0.1},
    "drift": {"backbone.norm": 0.2},
    "starting_values": {"backbone.norm": 0.5},
}


@given(
    gradients=st.lists(st.floats(1e-6, 500), min_size=3, max_size=3),
    updates=st.lists(st.floats(1e-6, 0.19), min_size=3, max_size=3),
    dead=st.floats(0, 0.5),
    drift=st.floats(0, 0.9),
)
def test_healthy_numbers_are_passed_over(gradients, updates, dead, drift):
    gradients = dict(zip(PARTS, gradients, strict=True))
    assert not diagnosis.of_step(gradients, dict(zip(PARTS, updates, strict=True)), 0)
    layers = {"dead": {"backbone.relu": dead}, "drift": {"backbone.norm": drift}}
    assert not diagnosis.of_epoch(**EPOCH | layers | {"gradients": gradients, "update": max(updates)})


@pytest.mark.parametrize("size", [1e5, math.inf, math.nan])
def test_exploding_gradient_names_the_parts(size):
    said = diagnosis.of_step({"backbone": size, "classifier": 2.0}, {}, 17)
    assert list(said) == ["exploding"]
    assert f"at step 17 (backbone {size:.2g}, classifier 2)" in said["exploding"]


def test_step_that_is_too_long_names_the_part():
    said = diagnosis.of_step(dict.fromkeys(PARTS, 1.0), dict(zip(PARTS, (0.3, 0.1, 3.0), strict=True)), 5)
    assert list(said) == ["fast"]
    assert (
        "step 5 changes the weights of the backbone by 30%, classifier by 300% of their size" in said["fast"]
    )


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"gradients": {"backbone": 1.0, "attention": 0.0}}, "vanishing attention", "the attention got none"),
        ({"update": 1e-9}, "still", "lr is too low"),
        ({"dead": {"a": 0.5, "block3.relu": 0.97}}, "dead block3.relu", "97% of those of block3.relu were 0"),
        ({"drift": {"backbone.norm": 3.25, "b": 0.1}}, "drift", "of 1 of 2 layers"),
        ({"drift": {"backbone.norm": 3.25}}, "drift", "most of all backbone.norm's (by 3.2"),
        ({"drift": {"backbone.norm": 3.25}}, "drift", "starting values still count 50%"),
        (
            {"drift": {"backbone.norm": 2.0}, "starting_values": {"backbone.norm": 1e-5}},
            "drift",
            "move faster",
        ),
    ],
)
def test_failure_of_an_epoch_is_named(change, key, words):
    said = diagnosis.of_epoch(**EPOCH | change)
    assert list(said) == [key]
    assert words in said[key]


def test_weights_that_get_no_gradient_are_not_blamed_on_the_learning_rate():
    said = diagnosis.of_epoch(**EPOCH | {"gradients": dict.fromkeys(PARTS, 0.0), "update": 0.0})
    assert sorted(said) == sorted(f"vanishing {part}" for part in PARTS)


def test_unmeasured_update_says_nothing():
    assert not diagnosis.of_epoch(**EPOCH | {"gradients": {}, "update": None})


@pytest.mark.parametrize(
    ("names", "words"),
    [(["AU2"], "AU2: logits or loss"), (AUS, "logits or loss of all AUs"), ([], "the loss is not finite")],
)
def test_what_is_no_number_is_named(names, words):
    (sentence,) = diagnosis.of_broken(names, 3, 8).values()
    assert words in sentence
    assert "at step 8" in sentence


@given(
    detected=arrays.arrays(bool, (6, 3)),
    labels=arrays.arrays(np.int8, (6, 3), elements=st.sampled_from([-1, 0, 1])),
)
def test_constant_answers_are_those_that_are_wrong_somewhere(detected, labels):
    present, absent = labels == 1, labels == 0
    counts = [
        (of.sum(0)).tolist()
        for of in (detected & present, detected & absent, ~detected & present, ~detected & absent)
    ]
    expected = {}
    for i, name in enumerate(AUS):
        answers = detected[labels[:, i] >= 0, i]
        truths = labels[labels[:, i] >= 0, i] == 1
        if len(answers) and len(set(answers)) == 1 and (answers != truths).any():
            expected[name] = "present" if answers[0] else "absent"
    assert diagnosis.constant_answers(counts, AUS) == expected


def test_some_constant_aus_are_listed_by_answer():
    said = diagnosis.of_answers({"AU1": "absent", "AU2": "present", "AU4": "absent"}, 12, 2)
    absent, present = said.values()
    assert absent.startswith("AU1, AU4: called absent in every frame of the last 2 validations")
    assert present.startswith("AU2: called present in every frame of the last 2 validations")
    assert "rare AUs" in absent
    assert "too large" in present


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (dict.fromkeys(AUS, "absent"), "all-absent predictor"),
        (dict.fromkeys(AUS, "present"), "all-present predictor"),
        ({"AU1": "absent", "AU2": "present", "AU4": "absent"}, "constant predictor"),
    ],
)
def test_network_that_answers_nothing_is_told_once(answers, words):
    (sentence,) = diagnosis.of_answers(answers, 3, 1).values()
    assert sentence.startswith(f"{words}: every frame of the last validation")
