"""What one training step does to a network: gradient, update, units that stay at zero, moving statistics.

Nothing is computed twice and no random number is drawn: the step is the one that it would have been.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import get_total_norm


@dataclass(frozen=True)
class StepNumbers:
    """One measured step.

    Attributes:
        gradients: Part of the network -> L2 norm of its gradient.
        updates: Part -> L2 norm of what the step changed, as a share of that of the weights before it;
            without parts whose weights were all 0.
        gradient: L2 norm of the whole gradient.
        update: The update's share for the whole network; None where all weights were 0.
        active: Layer -> (units,) on the CPU, whether the unit was above 0 anywhere in the batch.
        drift: Batch normalisation -> how far its running statistics are from the batch's, see ``drift``.
    """

    gradients: dict[str, float]
    updates: dict[str, float]
    gradient: float
    update: float | None
    active: dict[str, Tensor]
    drift: dict[str, float]


class StepProbe:
    """Watches one step, from before its forward pass until its weights are updated.

    Parts are the network's children with parameters that learn. Units are what ``nn.ReLU`` and ``nn.ReLU6``
    give: channels of a map, features of a vector. Of a network that calls ReLU as a function, or uses SiLU,
    nothing is counted.

    Args:
        network: Its hooks go when ``numbers`` has been asked, or by ``close``.
    """

    def __init__(self, network: nn.Module) -> None:
        parts = {
            name: [p for p in child.parameters() if p.requires_grad]
            for name, child in network.named_children()
        }
        self.parts = {name: parameters for name, parameters in parts.items() if parameters}
        self.gradients: dict[str, Tensor] = {}
        self.before: dict[str, list[Tensor]] = {}
        self.active: dict[str, Tensor] = {}
        layers = dict(network.named_modules())
        self.hooks = [
            layer.register_forward_hook(partial(self._see, name))
            for name, layer in layers.items()
            if isinstance(layer, nn.ReLU | nn.ReLU6)
        ]
        self.statistics = {
            name: (layer, layer.running_mean.clone(), layer.running_var.clone())
            for name, layer in layers.items()
            if isinstance(layer, _BatchNorm) and layer.training and layer.momentum != 0
            if layer.running_mean is not None and layer.running_var is not None
        }

    def _see(self, name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        """After each use of a ReLU; residual blocks use the same one several times."""
        uses = sum(seen == name or seen.startswith(f"{name}, use ") for seen in self.active)
        unit = 1 if output.ndim == 4 else output.ndim - 1
        others = [dim for dim in range(output.ndim) if dim != unit]
        highest = output.detach().amax(others)
        self.active[f"{name}, use {uses + 1}" if uses else name] = ~(
            highest <= 0
        )  # not a number is not silent

    @torch.no_grad()
    def before_update(self, scale: float = 1.0) -> None:
        """Takes the gradients and the weights, between backward pass and update.

        Args:
            scale: What the gradients are still multiplied by.
        """
        for name, parameters in self.parts.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            self.gradients[name] = get_total_norm(gradients) / scale
            self.before[name] = [p.clone() for p in parameters]

    @torch.no_grad()
    def numbers(self, together: Callable[[Tensor], Tensor] = lambda counts: counts) -> StepNumbers:
        """What was seen, after the update; waits for the device.

        Args:
            together: Sum of a tensor over the processes that share the batch.
        """
        self.close()
        found: dict[tuple[str, str], Tensor] = {}
        for name, gradient in self.gradients.items():
            found["gradient", name] = gradient
            found["weight", name] = get_total_norm(self.before[name])
            for before, after in zip(self.before[name], self.parts[name], strict=True):
                before.sub_(after)
            found["change", name] = get_total_norm(self.before[name])
        for name, (layer, mean, variance) in self.statistics.items():
            found["drift", name] = drift(layer, mean, variance)
        values = dict(zip(found, _on_the_host(list(found.values())), strict=True))
        of = {
            kind: {name: value for (key, name), value in values.items() if key == kind}
            for kind in ("gradient", "weight", "change", "drift")
        }
        whole = {kind: math.hypot(*of[kind].values()) for kind in ("gradient", "weight", "change")}
        return StepNumbers(
            gradients=of["gradient"],
            updates={name: of["change"][name] / size for name, size in of["weight"].items() if size},
            gradient=whole["gradient"],
            update=whole["change"] / whole["weight"] if whole["weight"] else None,
            active=self._active(together),
            drift=of["drift"],
        )

    def _active(self, together: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        if not self.active:
            return {}
        flags = together(torch.cat(list(self.active.values())).float()).cpu() > 0
        sizes = [len(units) for units in self.active.values()]
        return dict(zip(self.active, torch.split(flags, sizes), strict=True))

    def close(self) -> None:
        """Takes the hooks away."""
        for hook in self.hooks:
            hook.remove()


def is_measured(epoch: int, batch_idx: int, batches: int, accumulated: int, every: int) -> bool:
    """Whether a batch ends an optimiser step that is to be measured.

    Args:
        epoch: From 0; of the first one the first step is measured, too.
        batch_idx: Of the batch, from 0.
        batches: Of the epoch, 1 or more.
        accumulated: Batches of an optimiser step; the epoch's last one may have fewer.
        every: Optimiser steps from one measured step to the next.
    """
    ends_a_step = (batch_idx + 1) % accumulated == 0 or batch_idx + 1 == batches
    left = (batches - 1) // accumulated - batch_idx // accumulated
    first = epoch == 0 and batch_idx < accumulated
    return ends_a_step and (first or left % every == 0)


def drift(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> Tensor:
    """How far a batch normalisation's running statistics are from those of the batch that moved them last.

    Of each feature the larger of two: by how many of the batch's standard deviations the running mean is
    off, and by how many doublings the running deviation is. At 1 what validation sees is shifted by a whole
    deviation, or half or twice as wide as in training. The batch's statistics, of all processes where they
    share the batch, follow from how it moved the running ones.

    Args:
        layer: After the batch.
        mean: (features,) its running mean before the batch.
        variance: (features,) its running variance before the batch.

    Returns:
        Scalar, the median over the features.
    """
    # A layer that has moved holds all three.
    new_mean, new_variance = cast("Tensor", layer.running_mean), cast("Tensor", layer.running_var)
    weight = layer.momentum or 1 / cast("Tensor", layer.num_batches_tracked)
    batch_mean = mean + (new_mean - mean) / weight
    batch_variance = variance + (new_variance - variance) / weight
    deviation = (batch_variance.clamp(min=0) + layer.eps).sqrt()
    shift = (new_mean - batch_mean).abs() / deviation
    stretch = ((new_variance + layer.eps).sqrt() / deviation).log2().abs()
    return torch.maximum(shift, stretch).median()


def silent_share(active: Tensor) -> float:
    """Share in [0, 1] of the units that were never above 0: (units,) bool, as in ``StepNumbers.active``."""
    return 1 - float(active.float().mean())


def _on_the_host(values: list[Tensor]) -> list[float]:
    """Scalars of any device, fetched at once."""
    if not values:
        return []
    device = values[-1].device
    numbers: list[float] = torch.stack([value.to(device, torch.float32) for value in values]).tolist()
    return numbers
