"""Maps of networks: Grad-CAM against autograd by hand, positions against receptive fields, priors."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aunet.attention import AveragePool, Flatten, GlobalLocalAttention
from aunet.backbones import ConvNet
from aunet.data.rendered.scene import REGION_CELLS
from aunet.facs import TEMPLATE
from aunet.localisation.maps import (
    GRID,
    PRIOR_WIDTH,
    Maps,
    centre_prior,
    grad_cam,
    look,
    of_others,
    own_attention,
    position_centres,
    settle_normalisation,
    uniform,
)
from aunet.network import AUNet, linear_classifier, mlp_classifier

NUM_AUS = 3
FILTERS = (3, 4, 4, 5, 5, 6)
SHAPES = {
    (2, 2): {},
    (3, 3): {"pool_padding": "floor", "pool_last": False},
    (4, 4): {"pool_last": False},
    (7, 7): {"pool_last": False, "pools": 4},
}
"""The paper's network in the readings of its text, by the size of its map."""

SHARED = GlobalLocalAttention
PER_AU = partial(GlobalLocalAttention, maps=NUM_AUS)
MLP = partial(mlp_classifier, hidden=(8,))


def network(attention, size=(4, 4), classifier=linear_classifier, seed=0):
    """A small network in evaluation mode whose maps are not even."""
    torch.manual_seed(seed)
    built = AUNet(ConvNet(FILTERS, **SHAPES[size]), attention, classifier, NUM_AUS)
    settle_normalisation(built, frames(8))
    return built


def frames(count, seed=1):
    return torch.randint(256, (count, 3, 112, 112), generator=torch.Generator().manual_seed(seed)).byte()


def by_hand(net, features):
    """Grad-CAM from its definition, one frame and one AU at a time, in NumPy but for the gradient."""
    maps = np.empty((len(features), NUM_AUS, *features.shape[2:]))
    for number, au in np.ndindex(len(features), NUM_AUS):
        alone = features[[number]].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net.classify(alone)[0, au], alone)
        weights = gradient[0].numpy().mean((1, 2))
        maps[number, au] = np.maximum(np.tensordot(weights, features[number].numpy(), 1), 0)
    return maps


@pytest.mark.parametrize(
    ("attention", "classifier"),
    [
        (SHARED, linear_classifier),
        (PER_AU, linear_classifier),
        (AveragePool, linear_classifier),
        (Flatten, MLP),
    ],
)
def test_grad_cam_is_that_of_its_definition(attention, classifier):
    net = network(attention, classifier=classifier)
    with torch.no_grad():
        features = net.features(frames(4))
    found, expected = grad_cam(net, features), by_hand(net, features)
    assert found.shape == (4, NUM_AUS, 4, 4)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_grad_cam_under_average_pooling_is_the_class_activation_map():
    net = network(AveragePool)
    with torch.no_grad():
        features = net.features(frames(4))
        expected = torch.einsum("ac,bchw->bahw", net.classifier.weight, features).relu() / 16
    torch.testing.assert_close(grad_cam(net, features), expected)


def test_a_networks_own_attention_is_what_it_weights_by():
    features = torch.randn(5, FILTERS[-1], 4, 4)
    shared, per_au = network(SHARED), network(PER_AU)
    with torch.no_grad():
        assert own_attention(shared, features).shape == (5, 1, 4, 4)
        torch.testing.assert_close(own_attention(shared, features)[:, 0], shared.attention.weights(features))
        torch.testing.assert_close(own_attention(per_au, features), per_au.attention.weights(features))
        assert own_attention(network(AveragePool), features) is None


@pytest.mark.parametrize("attention", [SHARED, PER_AU, AveragePool])
def test_looking_gives_what_the_network_gives_and_leaves_it_alone(attention):
    net = network(attention)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen = look(net, [frames(8)[:5], frames(8)[5:]], 112)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(parameter.grad is not None for parameter in net.parameters())
    with torch.no_grad():
        features = net.features(frames(8))
        np.testing.assert_allclose(seen.probs, net.classify(features).sigmoid(), atol=1e-5)
    cams = grad_cam(net, features).numpy()
    np.testing.assert_array_equal(seen.empty, cams.max((2, 3)) == 0)
    np.testing.assert_allclose(seen.grad_cam.weights[~seen.empty], cams[~seen.empty], rtol=1e-3, atol=1e-7)
    if attention is AveragePool:
        assert seen.attention is None
    else:
        np.testing.assert_allclose(seen.attention.weights, own_attention(net, features).detach(), atol=1e-5)


def test_a_grad_cam_that_is_nothing_becomes_uniform_and_is_told():
    net = network(SHARED)
    nn.init.zeros_(net.classifier.weight[0])
    seen = look(net, [frames(3)], 112)
    assert seen.empty[:, 0].all()
    assert not seen.empty.all()
    even = seen.grad_cam.on_grid(np.arange(3), np.zeros(3, int))
    np.testing.assert_allclose(even, 1 / GRID**2)


def test_untrained_normalisation_is_set_to_the_frames_statistics():
    torch.manual_seed(0)
    net = AUNet(ConvNet(FILTERS), SHARED, linear_classifier, NUM_AUS).eval()
    settle_normalisation(net, frames(8))
    assert not net.training
    block = net.backbone.block1
    with torch.no_grad():
        out = block.conv(net.normalise(frames(8)))
    torch.testing.assert_close(block.norm.running_mean, out.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block.norm.running_var, out.var((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "expected", "field"),
    [
        ((2, 2), [32, 96], 190),
        ((3, 3), [16, 48, 80], 158),
        ((4, 4), [16, 48, 80, 112], 158),
        ((7, 7), [8, 24, 40, 56, 72, 88, 104], 110),
    ],
)
def test_positions_lie_in_the_middle_of_their_receptive_fields(size, expected, field):
    """The field, as wide as the documentation says, is where the gradient of one position is not 0."""
    backbone = ConvNet((2,) * 6, **SHAPES[size]).eval()
    for found in position_centres(backbone, 112):
        assert found.tolist() == expected
    for parameter in backbone.parameters():  # whatever is seen makes a difference
        nn.init.ones_(parameter)
    for block in backbone:
        if hasattr(block, "pool"):
            block.pool = nn.AvgPool2d(2)
    picture = torch.ones(1, 3, 512, 512, requires_grad=True)
    features = backbone(picture)
    number = features.shape[2] // 2
    features[0, 0, number, number].backward()
    seen = np.flatnonzero(picture.grad[0, 0].sum(1))
    assert len(seen) == field
    assert position_centres(backbone, 512)[0][number] == (seen[0] + seen[-1] + 1) / 2


class SamePadding(nn.Conv2d):
    """Pads by itself, as TensorFlow does: the odd pixel at the end."""

    def forward(self, picture):
        return super().forward(F.pad(picture, (1, 2, 1, 2)))


class Interpolated(nn.Module):
    """Changes sizes by no layer that is known."""

    def forward(self, picture):
        return F.interpolate(picture, size=(2, 2))


def test_positions_of_a_layer_that_pads_by_itself():
    rows, _ = position_centres(SamePadding(3, 1, kernel_size=5, stride=2), 32)
    assert rows[0] == 1.5  # it sees pixels -1, 0, 1, 2, 3, of which 1 is the middle
    assert np.diff(rows).tolist() == [2] * 15


def test_positions_of_unknown_layers_share_the_picture_and_that_is_told():
    with pytest.warns(UserWarning, match="do not tell where its positions lie"):
        rows, columns = position_centres(Interpolated(), 112)
    assert rows.tolist() == columns.tolist() == [28, 84]


def test_cells_take_the_weight_of_the_position_that_is_nearest():
    """Pooling that rounds up makes the positions of 2x2 meet at pixel 64 of 112, the 16th of 28 cells."""
    seen = look(network(SHARED, (2, 2)), [frames(2)], 112).attention
    (cells,) = seen.on_grid(np.array([1]), np.array([0]))
    one = seen.weights[1, 0]
    assert len(np.unique(one)) == 4
    blocks = [[np.full((16, 16), one[0, 0]), np.full((16, 12), one[0, 1])]]
    blocks += [[np.full((12, 16), one[1, 0]), np.full((12, 12), one[1, 1])]]
    expected = np.block(blocks)
    np.testing.assert_allclose(cells, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize("size", SHAPES)
def test_equal_weights_are_the_uniform_map_for_any_size(size):
    net = network(SHARED, size)
    nn.init.zeros_(net.attention.score.weight)
    seen = look(net, [frames(2)], 112)
    pair = np.array([1]), np.array([2])
    np.testing.assert_allclose(seen.attention.on_grid(*pair), uniform(2).on_grid(*pair), atol=1e-9)
    np.testing.assert_allclose(uniform(2).on_grid(*pair), 1 / GRID**2)


def test_maps_for_each_au_are_told_from_shared_ones():
    weights = np.random.default_rng(0).random((5, 3, 2, 2))
    halves = np.repeat([0, 1], GRID // 2)
    frame, au = np.array([4, 0]), np.array([2, 1])
    found = Maps(weights, halves, halves).on_grid(frame, au)
    for cells, one in zip(found, weights[frame, au], strict=True):
        np.testing.assert_allclose(cells, np.kron(one, np.ones((14, 14))) / one.sum() / 196)
    shared = Maps(weights[:, :1], halves, halves)
    np.testing.assert_allclose(shared.on_grid(frame, au), shared.on_grid(frame, au * 0))


def test_maps_of_other_aus_are_the_mean_of_all_but_one():
    weights = np.random.default_rng(0).random((5, 3, 2, 2))
    halves = np.repeat([0, 1], GRID // 2)
    maps = Maps(weights, halves, halves)
    frame, au = np.array([4, 0]), np.array([2, 1])
    expected = [
        np.mean([maps.on_grid(np.array([f]), np.array([b]))[0] for b in range(3) if b != a], 0)
        for f, a in zip(frame, au, strict=True)
    ]
    np.testing.assert_allclose(of_others(maps).on_grid(frame, au), expected)


def test_the_centre_prior_is_a_gaussian_at_the_middle_of_the_landmarks():
    (cells,) = centre_prior(4).on_grid(np.array([3]), np.array([11]))
    assert cells.shape == (GRID, GRID) == (REGION_CELLS, REGION_CELLS)
    assert cells.sum() == pytest.approx(1)
    x, y = np.mean(TEMPLATE, 0)
    assert tuple(np.argwhere(cells == cells.max())[0]) == (int(y / 4), int(x / 4))
    pixels = (np.arange(GRID) + 0.5) * 4
    ratio = cells[3, 5] / cells[20, 9]
    distance = [(pixels[j] - x) ** 2 + (pixels[i] - y) ** 2 for i, j in ((3, 5), (20, 9))]
    assert ratio == pytest.approx(np.exp((distance[1] - distance[0]) / (2 * PRIOR_WIDTH**2)))


def test_one_position_attends_uniformly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that attention is the identity
        net = AUNet(ConvNet(FILTERS, pool_padding="floor"), SHARED, linear_classifier, NUM_AUS).eval()
    seen = look(net, [frames(2)], 112)
    for maps in (seen.attention, seen.grad_cam):
        np.testing.assert_allclose(maps.on_grid(np.array([0]), np.array([1])), 1 / GRID**2)
