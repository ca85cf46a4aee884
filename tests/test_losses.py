"""The loss by value (published weights, the paper's formula) and by behaviour."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from aunet.losses import BinaryCrossEntropy, inverse_rate_weights

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
    loss = BinaryCrossEntropy(12, inverse_rate_weights)
    loss.set_counts(torch.tensor(POSITIVES), torch.full((12,), FRAMES))
    for size in (1e4, 1e30):
        for label in (-1, 0, 1):
            logits = torch.tensor([[size] * 6 + [-size] * 6], requires_grad=True)
            value = loss(logits, torch.full((1, 12), label))
            value.backward()
            assert value.isfinite()
            assert logits.grad.isfinite().all()


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_loss_has_the_precision_of_the_logits(dtype):
    loss = BinaryCrossEntropy(12)
    assert loss(torch.zeros(2, 12, dtype=dtype), torch.ones(2, 12, dtype=torch.int8)).dtype == dtype
