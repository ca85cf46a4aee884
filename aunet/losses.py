"""Losses on logits, and weightings that turn training counts into per-AU weights."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weighting = Callable[[Tensor, Tensor], Tensor]
"""(positives, known), both (num_aus,) counts of the training split -> (num_aus,) weights."""


def inverse_rate_weights(positives: Tensor, known: Tensor) -> Tensor:
    """Weights of the positive term, paper Eq. 4: training samples / (2 x positive samples) of each AU.

    Args:
        positives: (num_aus,) training frames in which the AU is present.
        known: (num_aus,) training frames with a label for the AU (rows of -1 are dropped before counting).

    Returns:
        (num_aus,) weights. An AU without a positive frame gets infinity.
    """
    return known.double() / (2 * positives.double())


class BinaryCrossEntropy(nn.Module):
    """Multi-label binary cross-entropy, its positive term weighted per AU (paper Eq. 2 and 3).

    The mean runs over AUs and batch; elements labelled -1 count neither in the sum nor in its divisor.

    Args:
        num_aus: Number of AUs, C in Eq. 2.
        weighting: Turns training counts into the weights w_i; None leaves them at 1 (plain cross-entropy).
    """

    pos_weight: Tensor

    def __init__(self, num_aus: int, weighting: Weighting | None = None) -> None:
        super().__init__()
        self.weighting = weighting
        # A buffer, so that a checkpoint carries the weights it was trained with.
        self.register_buffer("pos_weight", torch.ones(num_aus))

    def set_counts(self, positives: Tensor, known: Tensor) -> None:
        """Sets the weights from the training split's counts, both (num_aus,).

        An AU without a positive training frame keeps weight 1, with a warning: its positive term never
        occurs, so that any finite weight gives the same loss.
        """
        if self.weighting is None:
            return
        weights = self.weighting(positives, known)
        without = (positives == 0).tolist()
        if any(without):
            columns = [i for i, none in enumerate(without) if none]
            warnings.warn(
                f"no positive training frame for label column(s) {columns} (counted from 0): the network "
                f"cannot learn these AUs",
                stacklevel=2,
            )
            weights = torch.where(positives == 0, 1.0, weights)
        self.pos_weight.copy_(weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the known labels.

        Args:
            logits: (B, num_aus).
            labels: (B, num_aus) in {0, 1, -1}.

        Returns:
            Scalar; 0 (with a gradient of 0) when no label of the batch is known.
        """
        known = labels >= 0
        target = labels.clamp(min=0).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=self.pos_weight.to(logits.dtype), reduction="none"
        )
        return torch.where(known, loss, 0).sum() / known.sum().clamp(min=1)
