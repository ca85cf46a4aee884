"""Aggregators: the attention module against an independent NumPy version, its parameters and invariances."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aunet.attention import AveragePool, Flatten, GlobalLocalAttention


def attention(channels=8, size=(3, 4), seed=0, **arguments):
    """A module whose every parameter and statistic differs from its starting value."""
    torch.manual_seed(seed)
    module = GlobalLocalAttention(channels, size, **arguments)
    for tensor in (module.hidden.bias, module.score.bias, module.norm.bias, module.norm.running_mean):
        torch.nn.init.normal_(tensor)
    for tensor in (module.norm.weight, module.norm.running_var):
        torch.nn.init.uniform_(tensor, 0.5, 2)
    return module


def reference(module, features, train):
    """Figure 2 and Eq. 1, one image and one position at a time, in NumPy and double precision."""
    state = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    images = features.double().numpy()
    batch, channels, height, width = images.shape
    hidden = np.empty((batch, height, width, len(state["hidden.bias"])))
    for index in np.ndindex(batch, height, width):
        image, y, x = index
        hidden[index] = state["hidden.weight"] @ images[image, :, y, x] + state["hidden.bias"]
    mean, variance = state["norm.running_mean"], state["norm.running_var"]
    if train:  # over batch and positions
        mean, variance = hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))
    hidden = (hidden - mean) / np.sqrt(variance + 1e-3) * state["norm.weight"] + state["norm.bias"]
    scores = np.maximum(hidden, 0) @ state["score.weight"][0] + state["score.bias"][0]
    weights, vectors = np.empty((batch, height, width)), np.zeros((batch, channels))
    for image in range(batch):
        exponential = np.exp(scores[image])
        weights[image] = exponential / exponential.sum()
        for y, x in np.ndindex(height, width):
            vectors[image] += weights[image, y, x] * images[image, :, y, x]
    return weights, vectors


def test_trainable_parameters_of_the_papers_module():
    module = GlobalLocalAttention(256, (2, 2))
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == 33_281
    assert module.num_features == 256


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("size", [(2, 2), (3, 4), (1, 5)])
def test_agrees_with_numpy(train, size):
    module = attention(8, size).train(train)
    features = torch.randn(5, 8, *size)
    weights, vectors = reference(module, features, train)
    with torch.no_grad():
        np.testing.assert_allclose(module(features), vectors, atol=1e-5)
        np.testing.assert_allclose(module.weights(features), weights, atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_a_map_for_each_au_is_the_papers_module_once_for_each_au(train):
    """Same scoring network; its last layer has one row for each AU, which by itself is the paper's module."""
    module = attention(8, (3, 4), maps=5).train(train)
    features = torch.randn(6, 8, 3, 4)
    with torch.no_grad():
        weights, vectors = module.weights(features), module(features)
    assert weights.shape == (6, 5, 3, 4)
    assert vectors.shape == (6, 5, 8)
    torch.testing.assert_close(weights.sum((2, 3)), torch.ones(6, 5))
    for au in range(5):
        single = attention(8, (3, 4)).train(train)
        state = module.state_dict() | {
            "score.weight": module.score.weight[[au]], "score.bias": module.score.bias[[au]]
        }  # fmt: skip
        single.load_state_dict(state)
        own_weights, own_vectors = reference(single, features, train)
        np.testing.assert_allclose(weights[:, au], own_weights, atol=1e-5)
        np.testing.assert_allclose(vectors[:, au], own_vectors, atol=1e-5)


def test_maps_of_aus_at_one_position_are_the_identity_and_warn():
    with pytest.warns(UserWarning, match="single position is the identity"):
        module = GlobalLocalAttention(8, (1, 1), maps=3)
    features = torch.randn(5, 8, 1, 1)
    assert torch.equal(module(features), features.flatten(1)[:, None].expand(5, 3, 8))


def test_running_statistics_are_over_batch_and_positions():
    module = attention(bn_momentum=0.25).train()
    features, before = torch.randn(5, 8, 3, 4), module.norm.running_mean.clone()
    module(features)
    vectors = features.permute(0, 2, 3, 1).reshape(-1, 8)
    expected = 0.75 * before + 0.25 * module.hidden(vectors).mean(0)
    torch.testing.assert_close(module.norm.running_mean, expected)


def test_weights_are_a_map_of_each_image_that_sums_to_one():
    weights = attention().weights(torch.randn(5, 8, 3, 4))
    assert weights.shape == (5, 3, 4)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(5))


def test_images_of_a_batch_do_not_see_each_other_in_evaluation():
    module, features = attention().eval(), torch.randn(5, 8, 3, 4)
    alone = torch.cat([module(image[None]) for image in features])
    torch.testing.assert_close(module(features), alone)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)), train=st.booleans())
def test_order_of_the_positions_does_not_matter(order, train):
    module = attention().train(train)
    features = torch.randn(4, 8, 3, 4, generator=torch.Generator().manual_seed(1))
    moved = features.flatten(2)[..., order].view_as(features)
    with torch.no_grad():
        torch.testing.assert_close(module(moved), module(features))
        torch.testing.assert_close(
            module.weights(moved).flatten(1), module.weights(features).flatten(1)[:, order]
        )


def test_memory_format_does_not_matter():
    module, features = attention().eval(), torch.randn(4, 8, 3, 4)
    torch.testing.assert_close(
        module(features.contiguous(memory_format=torch.channels_last)), module(features)
    )


def test_one_position_is_the_identity_and_warns():
    with pytest.warns(UserWarning, match="single position is the identity"):
        module = GlobalLocalAttention(8, (1, 1))
    features = torch.randn(5, 8, 1, 1, requires_grad=True)
    for mode in (True, False):
        vectors = module.train(mode)(features)
        assert torch.equal(vectors, AveragePool(8, (1, 1))(features))
        assert torch.equal(vectors, features.flatten(1))
    module.train()(features).square().sum().backward()
    for parameter in module.parameters():
        assert (parameter.grad == 0).all()
    torch.testing.assert_close(features.grad, 2 * features.detach())


def test_larger_maps_do_not_warn_and_train_the_scoring_network():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = GlobalLocalAttention(8, (2, 1))
    module(torch.randn(5, 8, 2, 1)).square().sum().backward()
    for layer in (module.hidden, module.norm, module.score):
        assert layer.weight.grad.abs().max() > 0


def test_bias_of_the_scores_cancels():
    module = attention().double()
    module(torch.randn(5, 8, 3, 4, dtype=torch.float64)).square().sum().backward()
    assert module.score.weight.grad.abs().max() > 1e-3
    assert module.score.bias.grad.abs().max() < 1e-12


def test_starts_as_keras_does():
    torch.manual_seed(0)
    module = GlobalLocalAttention(256, (2, 2))
    for layer, inputs, outputs in ((module.hidden, 256, 128), (module.score, 128, 1)):
        bound = math.sqrt(6 / (inputs + outputs))
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()
    assert module.norm.eps == 1e-3
    assert module.norm.momentum == 0.01


def test_gradient_is_that_of_finite_differences():
    module = attention(3, (2, 2), hidden_features=4).double().eval()
    assert torch.autograd.gradcheck(module, torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("build", [AveragePool, Flatten, GlobalLocalAttention])
def test_contract(build):
    module = build(in_features=6, map_size=(2, 3))
    assert module(torch.randn(4, 6, 2, 3)).shape == (4, module.num_features)


def test_average_and_flatten_by_value():
    features = torch.arange(12.0).view(1, 2, 2, 3)
    assert AveragePool(2, (2, 3))(features).tolist() == [[2.5, 8.5]]
    assert Flatten(2, (2, 3))(features).tolist() == [list(range(12))]
