"""What one step does, against computations by hand; and that watching it leaves no trace."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from aunet.probe import StepProbe, is_measured, silent_share


class Parts(nn.Module):
    """Three parts like a network's, one of which does not learn; each use of a ReLU differs."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = nn.Conv2d(3, 4, 3).requires_grad_(False)
        self.body = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True))
        self.shape = nn.Flatten()
        self.head = nn.Linear(5, 2)

    def forward(self, frames):
        return self.head(self.body(self.frozen(frames)).mean((2, 3)))


def stepped(network, lr=0.1, scale=1.0, seed=0):
    """A step of gradient descent under a probe: (numbers, weights before, gradients)."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=lr)
    probe = StepProbe(network)
    frames = torch.randn(6, 3, 7, 7, generator=torch.Generator().manual_seed(seed))
    (network(frames).square().mean() * scale).backward()
    probe.before_update(scale)
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    gradients = {name: p.grad / scale for name, p in network.named_parameters() if p.grad is not None}
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad /= scale
    optimizer.step()
    return probe.numbers(), weights, gradients


def norm(tensors):
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


@given(lr=st.floats(1e-3, 10), scale=st.sampled_from([1.0, 1024.0]), seed=st.integers(0, 100))
def test_gradient_descent_changes_the_weights_by_its_rate_times_the_gradient(lr, scale, seed):
    numbers, weights, gradients = stepped(Parts(seed), lr, scale, seed)
    assert numbers.gradients.keys() == numbers.updates.keys() == {"body", "head"}
    for part in ("body", "head"):
        gradient, weight = (
            norm(t for n, t in of.items() if n.startswith(part)) for of in (gradients, weights)
        )
        assert numbers.gradients[part] == pytest.approx(gradient, rel=1e-4)
        assert numbers.updates[part] == pytest.approx(lr * gradient / weight, rel=1e-2)
    whole = norm(gradients.values())
    assert numbers.gradient == pytest.approx(whole, rel=1e-4)
    learning = norm(t for name, t in weights.items() if not name.startswith("frozen"))
    assert numbers.update == pytest.approx(lr * whole / learning, rel=1e-2)


def test_weights_that_were_all_zero_have_no_ratio():
    network = Parts()
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    numbers, *_ = stepped(network)
    assert numbers.updates.keys() == {"body"}
    assert numbers.update is not None
    assert numbers.gradients["body"] == 0  # behind weights of zero


@given(dead=st.sets(st.integers(0, 4)))
def test_planted_dead_channels_are_found(dead):
    network = Parts()
    with torch.no_grad():
        network.body[1].bias[list(dead)] = -100.0
    numbers, *_ = stepped(network)
    (units,) = numbers.active.values()
    assert list(numbers.active) == ["body.2"]
    assert units.tolist() == [channel not in dead for channel in range(5)]
    assert silent_share(units) == pytest.approx(len(dead) / 5)


class Shared(nn.Module):
    """One ReLU for maps, vectors and a vector of each AU; and one called as a function."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.six = nn.ReLU6()
        self.smooth = nn.SiLU()

    def forward(self, values):
        maps = self.relu(values)
        self.relu(values.flatten(2)[:, :, 0])
        self.six(values[:, :, 0].transpose(1, 2))
        return self.smooth(maps).relu()


def test_units_are_channels_of_maps_and_features_of_vectors():
    values = -torch.ones(2, 3, 4, 4)
    values[1, 2, 0, 0] = 1  # of one frame, at one position
    values[0, 1, 0, 1] = math.nan
    network = Shared()
    probe = StepProbe(network)
    network(values)
    active = probe.numbers().active
    assert {name: units.tolist() for name, units in active.items()} == {
        "relu": [False, True, True],  # what is not a number is not silent
        "relu, use 2": [False, False, True],
        "six": [False, True, True],
    }


def test_units_of_several_processes_are_active_where_one_is():
    network = Shared()
    probe = StepProbe(network)
    network(-torch.ones(2, 3, 4, 4))
    others = torch.tensor([2.0, 0, 0, 0, 1, 0, 0, 0, 0])
    active = probe.numbers(lambda flags: flags + others).active
    assert [units.tolist() for units in active.values()] == [
        [True, False, False],
        [False, True, False],
        [False, False, False],
    ]


@given(
    momentum=st.one_of(st.none(), st.floats(0.01, 1)),
    mean=st.floats(-10, 10),
    deviation=st.floats(0.1, 10),
    batches=st.integers(0, 3),
)
def test_drift_is_the_distance_to_the_batch(momentum, mean, deviation, batches):
    """The batch's statistics computed from its values, not from how the running ones moved."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(7, eps=1e-3, momentum=momentum))
    for _ in range(batches):
        network(torch.randn(30, 7))
    values = mean + deviation * torch.randn(30, 7)
    probe = StepProbe(network)
    network(values)
    found = probe.numbers().drift["0"]
    layer, spread = network[0], (values.var(0) + 1e-3).sqrt()
    shift = (layer.running_mean - values.mean(0)).abs() / spread
    stretch = ((layer.running_var + 1e-3).sqrt() / spread).log2().abs()
    assert found == pytest.approx(float(torch.maximum(shift, stretch).median()), rel=0.01, abs=0.01)


def test_normalisation_that_does_not_move_has_no_drift():
    network = nn.Sequential(
        nn.BatchNorm1d(3).eval(), nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3, momentum=0)
    )
    probe = StepProbe(network)
    network(torch.randn(4, 3))
    assert probe.numbers().drift == {}


def test_watching_leaves_no_trace():
    watched, other = Parts(), Parts()
    state = torch.random.get_rng_state()
    stepped(watched)
    assert torch.equal(torch.random.get_rng_state(), state)
    optimizer = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], lr=0.1)
    frames = torch.randn(6, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    other(frames).square().mean().backward()
    optimizer.step()
    for name, value in other.state_dict().items():
        assert torch.equal(watched.state_dict()[name], value), name
    assert not any(module._forward_hooks for module in watched.modules())


@given(
    epoch=st.integers(0, 2),
    batches=st.integers(1, 200),
    accumulated=st.integers(1, 7),
    every=st.integers(1, 60),
)
def test_steps_are_measured_at_equal_distances_back_from_the_last(epoch, batches, accumulated, every):
    # Lightning's rule: the optimiser steps after each full group of batches, and after the last batch.
    ends = [i for i in range(batches) if (i + 1) % accumulated == 0 or i == batches - 1]
    measured = {i for i in range(batches) if is_measured(epoch, i, batches, accumulated, every)}
    assert measured == {*ends[::-1][::every], *(ends[:1] if epoch == 0 else ())}
