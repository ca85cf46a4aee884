"""The losses by value (published weights, the papers' formulas) and by behaviour."""

import warnings
from decimal import Decimal, localcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from aunet.losses import (
    AsymmetricLoss,
    BinaryCrossEntropy,
    FocalLoss,
    MultiLabelLoss,
    effective_number_weights,
    inverse_rate_weights,
    sqrt_inverse_rate_weights,
)

CONF = Path(__file__).parents[1] / "conf" / "loss"

FRAMES = 1_356_861
POSITIVES = (160329, 67650, 208911, 361132, 538973, 467499, 332410, 38160, 42686, 34752, 850250, 100973)
PUBLISHED = (  # printed by Savchenko's ABAW3 notebook from the same frames: total / (2 x positives)
    4.23148962,
    10.02853659,
    3.24746184,
    1.87862194,
    1.25874673,
    1.45119134,
    2.04094492,
    17.77857704,
    15.8935131,
    19.52205628,
    0.79791885,
    6.71892981,
)
LOSSES = {  # one of each class, and the arguments at which a term changes its form
    "cross-entropy": BinaryCrossEntropy,
    "focal": FocalLoss,
    "focal, alpha": partial(FocalLoss, gamma=0.5, alpha=0.25),
    "asymmetric": AsymmetricLoss,
    "asymmetric, both": partial(AsymmetricLoss, gamma_pos=1.0, gamma_neg=0.5, clip=0.2),
    "asymmetric, no shift": partial(AsymmetricLoss, gamma_pos=0.5, gamma_neg=2.0, clip=0.0),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param](12)


@pytest.fixture
def weighted():
    """The paper's loss with the published weights, in double precision."""
    loss = BinaryCrossEntropy(12, inverse_rate_weights).double()
    loss.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    return loss


def batch(seed=0, size=16, unknown=0.25):
    """Logits that want a gradient, and labels of which a share is -1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (size, 12))
    labels[rng.random(labels.shape) < unknown] = -1
    logits = torch.tensor(rng.normal(0, 3, (size, 12)), requires_grad=True)
    return logits, torch.from_numpy(labels.astype(np.int8))


def reference(logits, labels, weights):
    """Paper Eq. 2 and 3 as printed, element by element, over the known labels."""
    terms = []
    for row, truth in zip(logits.tolist(), labels.tolist(), strict=True):
        for x, y, w in zip(row, truth, weights, strict=True):
            if y >= 0:
                p = 1 / (1 + np.exp(-x))
                terms.append(-(w * y * np.log(p) + (1 - y) * np.log(1 - p)))
    return np.mean(terms)


def focal_reference(logits, labels, gamma, alpha=None):
    """Lin et al., Eq. 4 and 5, on probabilities."""
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    y = labels.numpy()
    truth = np.where(y == 1, p, 1 - p)
    factor = 1.0 if alpha is None else np.where(y == 1, alpha, 1 - alpha)
    return (-factor * (1 - truth) ** gamma * np.log(truth))[y >= 0].mean()


def asymmetric_reference(logits, labels, gamma_pos, gamma_neg, clip):
    """Ridnik et al., Eq. 5 and 7, on probabilities."""
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    y = labels.numpy()
    shifted = np.maximum(p - clip, 0)
    positive = (1 - p) ** gamma_pos * np.log(p)
    negative = shifted**gamma_neg * np.log(1 - shifted)
    return -np.where(y == 1, positive, negative)[y >= 0].mean()


def gradients(loss, logits, label):
    """Absolute gradients of a loss at logits (n,) that share a label."""
    leaf = torch.tensor([logits], dtype=torch.float64, requires_grad=True)
    loss(leaf, torch.full((1, len(logits)), label)).backward()
    return leaf.grad[0].abs()


def test_published_weights(weighted):
    weights = inverse_rate_weights(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    assert weights.dtype == torch.float64
    np.testing.assert_allclose(weights, PUBLISHED, rtol=1e-7, atol=0)
    np.testing.assert_allclose(weighted.pos_weight, PUBLISHED, rtol=1e-7, atol=0)
    single = BinaryCrossEntropy(12, inverse_rate_weights)
    single.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    assert single.pos_weight.dtype == torch.float32
    np.testing.assert_allclose(single.pos_weight, PUBLISHED, rtol=1e-7, atol=0)


def test_weights_count_known_labels_of_each_au():
    weights = inverse_rate_weights(torch.tensor([1, 4]), torch.tensor([8, 4]))
    assert weights.tolist() == [4.0, 0.5]


@pytest.mark.parametrize("unknown", [0.0, 0.25, 0.9])
def test_value_is_the_papers_formula(weighted, unknown):
    logits, labels = batch(unknown=unknown)
    assert weighted(logits, labels).item() == pytest.approx(
        reference(logits, labels, weighted.pos_weight.tolist()), rel=1e-12
    )


def test_equals_torch_when_all_labels_are_known(weighted):
    logits, labels = batch(unknown=0)
    expected = nn.BCEWithLogitsLoss(pos_weight=weighted.pos_weight)(logits, labels.double())
    torch.testing.assert_close(weighted(logits, labels), expected, rtol=1e-12, atol=0)


def test_without_weighting_it_is_plain_cross_entropy():
    loss = BinaryCrossEntropy(12)
    loss.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    assert loss.pos_weight.tolist() == [1.0] * 12
    logits, labels = batch(unknown=0)
    torch.testing.assert_close(loss(logits, labels), nn.BCEWithLogitsLoss()(logits, labels.double()))


def test_only_known_labels_get_a_gradient(weighted):
    logits, labels = batch()
    weighted(logits, labels).backward()
    assert (logits.grad[labels == -1] == 0).all()
    assert (logits.grad[labels == 1] < 0).all()
    assert (logits.grad[labels == 0] > 0).all()
    changed = torch.where(labels == -1, 100.0, logits.detach())
    assert weighted(changed, labels).item() == weighted(logits, labels).item()


def test_batch_without_a_known_label_costs_nothing(weighted):
    logits, labels = batch(unknown=1)
    loss = weighted(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_extreme_logits_stay_finite():
    weighted = BinaryCrossEntropy(12, inverse_rate_weights)
    weighted.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    for loss in (weighted, *(build(12) for build in LOSSES.values())):
        for size in (20.0, 100.0, 1e4, 1e30):
            for label in (-1, 0, 1):
                logits = torch.tensor([[size] * 6 + [-size] * 6], requires_grad=True)
                value = loss(logits, torch.full((1, 12), label))
                value.backward()
                assert value.isfinite()
                assert logits.grad.isfinite().all()


def test_contract(loss):
    assert isinstance(loss, MultiLabelLoss)
    assert list(loss.state_dict()) == ["pos_weight"]
    assert not list(loss.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    assert loss.pos_weight.tolist() == [1.0] * 12
    logits, labels = batch()
    value = loss(logits, labels)
    assert value.shape == ()
    value.backward()
    assert (logits.grad[labels == -1] == 0).all()
    assert (logits.grad[labels == 1] < 0).all()
    assert (logits.grad[labels == 0] >= 0).all()
    changed = torch.where(labels == -1, 100.0, logits.detach())
    assert loss(changed, labels).item() == value.item()
    known = labels >= 0
    alone = [loss(logits[i : i + 1], labels[i : i + 1]).item() * known[i].sum().item() for i in range(16)]
    assert value.item() == pytest.approx(sum(alone) / known.sum().item(), rel=1e-12)


def test_elements_are_what_each_costs_alone(loss):
    logits, labels = batch()
    elements, known = loss.elements(logits.detach(), labels)
    assert torch.equal(known, labels >= 0)
    assert (elements[~known] == 0).all()
    for row, column in ((labels == value).nonzero()[0] for value in (0, 1)):
        only = torch.full_like(labels, -1)
        only[row, column] = labels[row, column]
        assert loss(logits, only).item() == pytest.approx(elements[row, column].item(), rel=1e-12)


def test_sure_and_right_costs_nothing_sure_and_wrong_much(loss):
    sure = torch.full((1, 12), 100.0)
    assert loss(sure, torch.ones(1, 12)).item() == pytest.approx(0, abs=1e-30)
    assert loss(-sure, torch.zeros(1, 12)).item() == pytest.approx(0, abs=1e-30)
    assert loss(-sure, torch.ones(1, 12)).item() >= 25
    assert loss(sure, torch.zeros(1, 12)).item() > 1


def test_a_logit_that_is_no_number_shows(loss):
    for label in (0, 1):
        assert loss(torch.full((1, 12), torch.nan), torch.full((1, 12), label)).isnan()


def test_batch_without_known_labels_is_zero(loss):
    logits, labels = batch(unknown=1)
    loss(logits, labels).backward()
    assert loss(logits, labels).item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(loss, dtype):
    logits, labels = batch(size=256)
    half = logits.detach().to(dtype).requires_grad_()
    value = loss(half, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad.dtype == dtype
    assert half.grad.isfinite().all()
    assert value.item() == pytest.approx(loss(half.detach().double(), labels).item(), rel=1e-5)
    sure = torch.full((512, 12), 6e4 if dtype == torch.float16 else 1e30, dtype=dtype)
    assert loss(sure, torch.zeros(512, 12)).isfinite()  # the sum of float16 would not be


def test_autocast_changes_nothing(loss):
    logits, labels = batch()
    logits = logits.detach().bfloat16()
    expected = loss(logits, labels)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(logits, labels), expected, rtol=0, atol=0)


@pytest.mark.parametrize("known", [10, 0])
def test_au_without_positive_frame_warns_and_stays_finite(known):
    loss = BinaryCrossEntropy(3, inverse_rate_weights)
    with pytest.warns(UserWarning, match=r"label column\(s\) \[1\] "):
        loss.set_counts(torch.tensor([5, 0, 2]), torch.tensor([10, known, 10]))
    assert loss.pos_weight.tolist() == [1.0, 1.0, 2.5]
    assert loss(torch.zeros(2, 3), torch.ones(2, 3)).isfinite()


def test_no_warning_when_every_au_occurs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BinaryCrossEntropy(2, inverse_rate_weights).set_counts(torch.tensor([5, 1]), torch.tensor([10, 10]))
        BinaryCrossEntropy(2).set_counts(torch.tensor([0, 0]), torch.tensor([10, 10]))


def test_weights_travel_in_the_state_dict():
    trained, fresh = (BinaryCrossEntropy(12, inverse_rate_weights) for _ in range(2))
    trained.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    assert not list(trained.parameters())
    assert list(trained.state_dict()) == ["pos_weight"]
    fresh.load_state_dict(trained.state_dict())
    logits, labels = batch()
    assert fresh(logits, labels).item() == trained(logits, labels).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_has_the_precision_of_the_logits(dtype):
    loss = BinaryCrossEntropy(12)
    assert loss(torch.zeros(2, 12, dtype=dtype), torch.ones(2, 12, dtype=torch.int8)).dtype == dtype


def test_square_root_lies_between_no_weight_and_eq_4():
    weights = sqrt_inverse_rate_weights(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    np.testing.assert_allclose(weights, np.sqrt(PUBLISHED), rtol=1e-7, atol=0)
    assert sqrt_inverse_rate_weights(torch.tensor([0]), torch.tensor([5])).tolist() == [np.inf]


def effective_number(n, beta):
    """Cui et al.'s (1 - beta^n) / (1 - beta) as the sum that it closes."""
    return sum(beta**power for power in range(n))


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999])
def test_effective_numbers_by_value(beta):
    positives, known = [1, 3, 40, 90], [2, 100, 100, 100]
    expected = [
        effective_number(k - p, beta) / effective_number(p, beta)
        for p, k in zip(positives, known, strict=True)
    ]
    weights = effective_number_weights(torch.tensor(positives), torch.tensor(known), beta)
    assert weights.dtype == torch.float64
    np.testing.assert_allclose(weights, expected, rtol=1e-12, atol=0)


def test_effective_numbers_take_beta_from_the_frames():
    weights = effective_number_weights(torch.tensor([3, 40]), torch.tensor([100, 50]))
    expected = [effective_number(97, 0.99) / effective_number(3, 0.99)]
    expected += [effective_number(10, 0.98) / effective_number(40, 0.98)]
    np.testing.assert_allclose(weights, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [None, 0.9999, 0.999999, 1 - 1e-12])
def test_effective_numbers_of_millions_of_frames_by_value(beta):
    """Against fifty digits: 1 - beta^n in double precision would lose most of its own."""
    weights = effective_number_weights(torch.tensor(POSITIVES), torch.full((12,), FRAMES), beta)
    with localcontext(prec=50):
        exact = 1 - 1 / Decimal(FRAMES) if beta is None else Decimal(beta)
        expected = [float((1 - exact ** (FRAMES - p)) / (1 - exact**p)) for p in POSITIVES]
    np.testing.assert_allclose(weights, expected, rtol=1e-13, atol=0)


def test_effective_numbers_limits():
    positives, known = torch.tensor(POSITIVES), torch.full((12,), FRAMES)
    assert effective_number_weights(positives, known, 0.0).tolist() == [1.0] * 12
    near_one = effective_number_weights(positives, known, float(np.nextafter(1, 0)))
    odds = (FRAMES - np.array(POSITIVES)) / POSITIVES
    np.testing.assert_allclose(near_one, odds, rtol=1e-9, atol=0)
    # A constant that counts to 1,000 makes nothing of millions of frames.
    np.testing.assert_allclose(effective_number_weights(positives, known, 0.999), 1, rtol=1e-12, atol=0)


def test_effective_numbers_are_on_the_scale_of_eq_4():
    rates = np.array(POSITIVES) / FRAMES
    weights = effective_number_weights(torch.tensor(POSITIVES), torch.full((12,), FRAMES)).numpy()
    np.testing.assert_allclose(weights, np.expm1(rates - 1) / np.expm1(-rates), rtol=1e-5, atol=0)
    ratio = weights / PUBLISHED
    assert ((ratio > 0.8) & (ratio < 2 * (1 - np.exp(-1)))).all()
    rare = effective_number_weights(torch.tensor([1]), torch.tensor([10_000_000]))
    assert rare.item() / 5_000_000 == pytest.approx(2 * (1 - np.exp(-1)), rel=1e-6)


@given(
    known=st.integers(2, 10_000_000),
    share=st.floats(0, 1),
    beta=st.none() | st.floats(0, 1, exclude_max=True),
)
def test_effective_numbers_tame_the_ratio_of_the_classes(known, share, beta):
    """Between 1 and negatives / positives, and the reverse for the reversed labels."""
    positives = min(max(round(share * known), 1), known - 1)
    counts = torch.tensor([positives, known - positives]), torch.tensor([known, known])
    weight, reverse = effective_number_weights(*counts, beta).tolist()
    assert weight * reverse == pytest.approx(1, rel=1e-9)
    odds = (known - positives) / positives
    assert min(1, odds) * (1 - 1e-9) <= weight <= max(1, odds) * (1 + 1e-9)


@pytest.mark.parametrize("beta", [None, 0.0, 0.999])
def test_effective_numbers_of_aus_without_a_class(beta):
    """Never present, always present, without a label, and one frame of either kind."""
    weights = effective_number_weights(torch.tensor([0, 7, 0, 1, 0]), torch.tensor([7, 7, 0, 1, 1]), beta)
    assert weights.tolist() == [np.inf, 1.0, np.inf, 1.0, np.inf]
    loss = BinaryCrossEntropy(5, partial(effective_number_weights, beta=beta))
    with pytest.warns(UserWarning, match=r"label column\(s\) \[0, 2, 4\] "):
        loss.set_counts(torch.tensor([0, 7, 0, 1, 0]), torch.tensor([7, 7, 0, 1, 1]))
    assert loss.pos_weight.tolist() == [1.0] * 5


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
def test_focal_by_value(gamma, alpha):
    logits, labels = batch()
    value = FocalLoss(12, gamma, alpha)(logits, labels).item()
    assert value == pytest.approx(focal_reference(logits, labels, gamma, alpha), rel=1e-12)


@pytest.mark.parametrize("gamma_pos", [0.0, 1.0])
@pytest.mark.parametrize("gamma_neg", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("clip", [0.0, 0.05, 0.5])
def test_asymmetric_by_value(gamma_pos, gamma_neg, clip):
    logits, labels = batch()
    value = AsymmetricLoss(12, gamma_pos, gamma_neg, clip)(logits, labels).item()
    assert value == pytest.approx(asymmetric_reference(logits, labels, gamma_pos, gamma_neg, clip), rel=1e-10)


def test_gradient_is_that_of_the_value(loss):
    """By finite differences, away from the kink of the shift."""
    logits = torch.linspace(-4, 4, 24, dtype=torch.float64).view(2, 12).requires_grad_()
    for label in (0, 1):
        assert torch.autograd.gradcheck(loss, (logits, torch.full((2, 12), label)))


def test_without_focus_they_are_cross_entropy():
    logits, labels = batch()
    plain = BinaryCrossEntropy(12)(logits, labels)
    for loss in (FocalLoss(12, gamma=0), AsymmetricLoss(12, 0, 0, 0)):
        torch.testing.assert_close(loss(logits, labels), plain, rtol=1e-12, atol=0)
    half = FocalLoss(12, gamma=0, alpha=0.5)(logits, labels)
    torch.testing.assert_close(half, plain / 2, rtol=1e-12, atol=0)
    weighted = BinaryCrossEntropy(12, lambda positives, known: torch.full((12,), 3.0))
    weighted.set_counts(torch.ones(12), torch.ones(12))
    quarter = FocalLoss(12, gamma=0, alpha=0.75)(logits, labels)
    torch.testing.assert_close(quarter, weighted(logits, labels) / 4, rtol=1e-12, atol=0)


def test_asymmetric_with_one_gamma_is_focal():
    logits, labels = batch()
    expected = FocalLoss(12, gamma=2)(logits, labels)
    torch.testing.assert_close(AsymmetricLoss(12, 2, 2, 0)(logits, labels), expected, rtol=1e-12, atol=0)


def test_focal_turns_to_hard_elements():
    """Lin et al.: at p_t = 0.9 the loss of gamma 2 is a hundredth of cross-entropy's."""
    easy = torch.full((1, 1), np.log(9.0), dtype=torch.float64)
    ratio = FocalLoss(1)(easy, torch.ones(1, 1)) / BinaryCrossEntropy(1)(easy, torch.ones(1, 1))
    assert ratio.item() == pytest.approx(0.01, rel=1e-12)
    for label, hard, easy in ((1, -2.0, 4.0), (0, 2.0, -4.0)):
        shares = []
        for gamma in (0, 1, 2, 5):
            hard_gradient, easy_gradient = gradients(FocalLoss(2, gamma), [hard, easy], label)
            shares.append((easy_gradient / hard_gradient).item())
        assert shares == sorted(shares, reverse=True)
        assert shares[2] < 0.01 * shares[0]


def test_asymmetric_lets_easy_negatives_go_and_keeps_positives():
    below, above, hard, mislabelled = gradients(AsymmetricLoss(4), [-4.0, -2.0, 1.0, 12.0], 0)
    assert below == 0  # p = 0.018, below the shift
    assert 0 < above < 0.01 * hard
    assert mislabelled < 0.01 * hard
    logits = [-4.0, -2.0, 1.0, 12.0]
    plain = gradients(BinaryCrossEntropy(4).double(), logits, 1)
    torch.testing.assert_close(gradients(AsymmetricLoss(4), logits, 1), plain, rtol=1e-10, atol=0)


def test_the_shift_bounds_what_a_negative_costs():
    value = AsymmetricLoss(1)(torch.full((1, 1), 100.0, dtype=torch.float64), torch.zeros(1, 1))
    assert value.item() == pytest.approx(-(0.95**4) * np.log(0.05), rel=1e-12)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (partial(FocalLoss, gamma=-1), "gamma"),
        (partial(FocalLoss, gamma=float("nan")), "gamma"),
        (partial(FocalLoss, alpha=0.0), "alpha"),
        (partial(FocalLoss, alpha=1.5), "alpha"),
        (partial(AsymmetricLoss, gamma_pos=-1), "gamma_pos"),
        (partial(AsymmetricLoss, gamma_neg=-1), "gamma_neg"),
        (partial(AsymmetricLoss, clip=1.0), "clip"),
        (partial(AsymmetricLoss, clip=-0.1), "clip"),
    ],
)
def test_arguments_out_of_range_are_refused(build, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        build(12)


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_beta_out_of_range_is_refused(beta):
    with pytest.raises(ValueError, match=r"^beta must be"):
        effective_number_weights(torch.tensor([1]), torch.tensor([2]), beta)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bce", BinaryCrossEntropy(12)),
        ("reweighted_bce", BinaryCrossEntropy(12, inverse_rate_weights)),
        ("sqrt_bce", BinaryCrossEntropy(12, sqrt_inverse_rate_weights)),
        ("effective_number", BinaryCrossEntropy(12, effective_number_weights)),
        ("focal", FocalLoss(12, gamma=2)),
        ("asymmetric", AsymmetricLoss(12, gamma_pos=0, gamma_neg=4, clip=0.05)),
    ],
)
def test_configuration_is_the_loss_of_its_name(name, expected):
    cfg = OmegaConf.create({"num_aus": 12, "loss": OmegaConf.load(CONF / f"{name}.yaml")})
    built = instantiate(cfg.loss, _convert_="all")
    assert type(built) is type(expected)
    logits, labels = batch()
    for loss in (built, expected):
        loss.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    assert built.pos_weight.tolist() == expected.pos_weight.tolist()
    assert built(logits, labels).item() == expected(logits, labels).item()


def test_every_configuration_is_tested():
    tested = test_configuration_is_the_loss_of_its_name.pytestmark[0].args[1]
    assert {name for name, _ in tested} == {path.stem for path in CONF.glob("*.yaml")}
