"""A step of training whose batch several processes share: batch normalisation and loss see all of it.

Each process has an equal part of the batch, every world_size-th row from its own number on. What couples the
rows of a batch are the statistics of batch normalisation and the loss; both are computed here from the rows
of all processes, so that the step is, up to rounding, the one that a single process would make. Only where a
process group exists does anything happen; gloo and NCCL serve.
"""

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """Sum over all processes, in each of them."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Each process's result depends on this process's part: their gradients add up."""
        whole = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(whole)
        return whole


def sum_over_processes(part: Tensor) -> Tensor:
    """Sum of the processes' tensors of equal shape; the gradient is that of the sum of their losses."""
    return cast("Tensor", _Sum.apply(part))


def whole_batch(part: Tensor) -> Tensor:
    """The rows of all processes in the order in which a single process has them.

    A loss of the result is the same number in every process. DistributedDataParallel takes the mean of the
    processes' gradients, and each of them is here the number of processes times its share of the loss's: the
    mean is the gradient of the loss, whatever the loss and wherever labels are unknown.

    Args:
        part: (B, ...) rows rank, rank + world_size, ... of the batch, equally many in each process.

    Returns:
        (B x world_size, ...); ``part`` itself in a process without others.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return part
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    whole = part.new_zeros(len(part) * world_size, *part.shape[1:])
    whole[rank::world_size] = part
    return sum_over_processes(whole)


class WholeBatchNorm(_BatchNorm):
    """Batch normalisation over the batches of all processes, on any device; built by ``whole_batch_norms``.

    In training every feature is normalised by mean and variance over the values of all processes, and the
    gradient passes through both. Running statistics move as torch's do, by the unbiased variance. torch's
    own SyncBatchNorm does the same for CUDA alone.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.BatchNorm's name
        """(B, C, ...) -> the same shape and type.

        Raises:
            ValueError: All processes together hold a single value of each feature.
        """
        if not self.training:
            return super().forward(input)
        others = [dim for dim in range(input.ndim) if dim != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        # The mean first, then squares of what is left: a difference of large sums would lose digits.
        own = values.new_tensor([values.numel() / values.shape[1]])
        *_, number = total = sum_over_processes(torch.cat([values.sum(others), own]))
        if number.item() < 2:
            raise ValueError("batch normalisation needs more than one value of each feature in training")
        mean = total[:-1] / number
        centred = values - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(others)) / number
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        self._move(mean.detach(), variance.detach() * number / (number - 1))
        return cast("Tensor", normal.to(input.dtype))

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        if input.ndim < 2:
            raise ValueError(f"expected (B, C, ...), got {tuple(input.shape)}")

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def whole_batch_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Lets every batch normalisation of a network see the batches of all processes.

    Parameters and buffers stay the same tensors under the same names, so that checkpoints fit either form;
    in evaluation mode nothing differs.

    Args:
        module: Changed in place, unless it is itself a batch normalisation.
        device: Where it will train: on CUDA torch's SyncBatchNorm serves, elsewhere ``WholeBatchNorm``.

    Returns:
        The network.
    """
    if device.type == "cuda":
        # torch does not annotate it.
        return cast("nn.Module", nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    if isinstance(module, _BatchNorm):
        whole = WholeBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(whole, name, getattr(module, name))
        return whole.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, whole_batch_norms(child, device))
    return module
