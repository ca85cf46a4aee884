"""Losses on logits, and weightings that turn training counts into per-AU weights."""

import warnings
from abc import ABC, abstractmethod
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


def sqrt_inverse_rate_weights(positives: Tensor, known: Tensor) -> Tensor:
    """Square root of Eq. 4's weights: half-way, as ratios go, between no weighting and the paper's.

    Args:
        positives: (num_aus,) training frames in which the AU is present.
        known: (num_aus,) training frames with a label for the AU.

    Returns:
        (num_aus,) weights. An AU without a positive frame gets infinity.
    """
    return inverse_rate_weights(positives, known).sqrt()


def effective_number_weights(positives: Tensor, known: Tensor, beta: float | None = None) -> Tensor:
    """Weights of the positive term by effective numbers of samples (Cui et al., CVPR 2019).

    n frames that overlap count as E(n) = (1 - beta^n) / (1 - beta). The paper weights each class by 1 / E; of
    two classes only the ratio matters to where the optimum lies, so the negative term keeps the weight 1 and
    the positive one gets E(negatives) / E(positives). It is 1 for an AU that is present half of the time, as
    Eq. 4's weight is, and tends to 1 as beta tends to 0, to negatives / positives as beta tends to 1.

    In the paper beta = (N - 1) / N, N being the unknown number of distinct samples of a class. A constant
    such as 0.999 says 1,000 whatever the data: with some ten thousand positives all weights are 1. So by
    default N is the number of the AU's known training frames. Then E(n) is about N (1 - exp(-n / N)) and the
    weights depend on the rate alone, not on the size of the data; rare AUs get 1.26 times Eq. 4's weight. A
    smaller beta brings the weights nearer to 1.

    Args:
        positives: (num_aus,) training frames in which the AU is present.
        known: (num_aus,) training frames with a label for the AU.
        beta: In [0, 1); None: (known - 1) / known of each AU.

    Returns:
        (num_aus,) weights. An AU without a positive frame gets infinity; one without a negative frame gets 1,
        since with 0 it would not be learnt.

    Raises:
        ValueError: ``beta`` is not in [0, 1).
    """
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), not {beta}; close to 1 it gives negatives / positives")
    present, total = positives.double(), known.double()
    absent = total - present
    log_beta = torch.log1p(-1 / total) if beta is None else torch.tensor(beta, dtype=torch.float64).log()
    # beta^n next to 1 would cancel; the divisors 1 - beta drop out of the ratio.
    weights = torch.expm1(absent * log_beta) / torch.expm1(present * log_beta)
    weights = torch.where(absent == 0, 1.0, weights)
    return torch.where(present == 0, torch.inf, weights)


class MultiLabelLoss(nn.Module, ABC):
    """What the losses share: a mean over AUs and batch in which elements labelled -1 do not count.

    A subclass says in ``terms`` what each element costs.

    Args:
        num_aus: Number of AUs.

    Attributes:
        pos_weight: (num_aus,) weights of the positive terms; ones in a loss without such weights.
    """

    pos_weight: Tensor

    def __init__(self, num_aus: int) -> None:
        super().__init__()
        # A buffer, so that a checkpoint carries the weights it was trained with.
        self.register_buffer("pos_weight", torch.ones(num_aus))

    def set_counts(self, positives: Tensor, known: Tensor) -> None:
        """Takes the training split's counts, both (num_aus,); without use in a loss without weights."""

    @abstractmethod
    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of each element: (B, num_aus) logits and targets in {0, 1} of one dtype -> (B, num_aus)."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the known labels.

        Args:
            logits: (B, num_aus).
            labels: (B, num_aus) in {0, 1, -1}.

        Returns:
            Scalar; 0 (with a gradient of 0) when no label of the batch is known. Half-precision logits give a
            loss in single precision, since a sum over a batch can leave the range of float16.
        """
        elements, known = self.elements(logits, labels)
        return elements.sum() / known.sum().clamp(min=1)

    def elements(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What the mean runs over: the loss of each element, and whether its label is known.

        Args:
            logits: (B, num_aus).
            labels: (B, num_aus) in {0, 1, -1}.

        Returns:
            Both (B, num_aus); the loss is 0 where the label is not known.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        known = labels >= 0
        terms = self.terms(logits, labels.clamp(min=0).to(logits.dtype))
        return torch.where(known, terms, 0), known


class BinaryCrossEntropy(MultiLabelLoss):
    """Multi-label binary cross-entropy, its positive term weighted per AU (paper Eq. 2 and 3).

    Args:
        num_aus: Number of AUs, C in Eq. 2.
        weighting: Turns training counts into the weights w_i; None leaves them at 1 (plain cross-entropy).
    """

    def __init__(self, num_aus: int, weighting: Weighting | None = None) -> None:
        super().__init__(num_aus)
        self.weighting = weighting

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

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Eq. 3 of each element, see :class:`MultiLabelLoss`."""
        return F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=self.pos_weight.to(logits.dtype), reduction="none"
        )


class FocalLoss(MultiLabelLoss):
    """Focal loss (Lin et al., ICCV 2017): cross-entropy times (1 - p_t)^gamma, so that easy elements fade.

    p_t is the probability given to the truth. The mean runs over all known labels, where the paper, for
    detectors, divides by the number of objects. ``pos_weight`` stays at ones: what focusing does to the
    probabilities no weight can undo.

    Args:
        num_aus: Number of AUs.
        gamma: Strength of the focus, 0 or more; 0 is cross-entropy.
        alpha: Factor in (0, 1) of the positive terms, 1 - alpha being that of the negative ones; None: no
            such factors. The paper's is 0.25.

    Raises:
        ValueError: ``gamma`` or ``alpha`` is out of range.
    """

    def __init__(self, num_aus: int, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__(num_aus)
        _check_exponents(gamma=gamma)
        if alpha is not None and not 0 < alpha < 1:
            raise ValueError(f"alpha must be in (0, 1) or None, not {alpha}")
        self.gamma = gamma
        self.alpha = alpha

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Focal loss of each element, see :class:`MultiLabelLoss`."""
        signed = logits * (2 * target - 1)
        loss = _focused(F.logsigmoid(signed), F.logsigmoid(-signed), self.gamma)
        if self.alpha is None:
            return loss
        return loss * (self.alpha * target + (1 - self.alpha) * (1 - target))


class AsymmetricLoss(MultiLabelLoss):
    """Asymmetric loss (Ridnik, Ben-Baruch et al., ICCV 2021): positives and negatives focused apart.

    A positive costs -(1 - p)^gamma_pos log p. A negative costs -q^gamma_neg log(1 - q) with q = max(p - clip,
    0): below ``clip`` nothing. The focusing factors take part in the gradient, as in the paper's analysis;
    its published code leaves them out by default. ``pos_weight`` stays at ones, as in the focal loss.

    Args:
        num_aus: Number of AUs.
        gamma_pos: Focus on hard positives, 0 or more.
        gamma_neg: Focus on hard negatives, 0 or more.
        clip: Shift of the negatives' probabilities, in [0, 1).

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, num_aus: int, gamma_pos: float = 0.0, gamma_neg: float = 4.0, clip: float = 0.05
    ) -> None:
        super().__init__(num_aus)
        _check_exponents(gamma_pos=gamma_pos, gamma_neg=gamma_neg)
        if not 0 <= clip < 1:
            raise ValueError(f"clip must be in [0, 1), not {clip}")
        self.gamma_pos = gamma_pos
        self.gamma_neg = gamma_neg
        self.clip = clip

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Asymmetric loss of each element, see :class:`MultiLabelLoss`."""
        log_present, log_absent = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = _focused(log_present, log_absent, self.gamma_pos)
        if self.clip == 0:  # by the logits: 1 - p would be rounded to 0
            negative = _focused(log_absent, log_present, self.gamma_neg)
        else:
            shifted = logits.sigmoid() - self.clip
            counts = ~(shifted <= 0)  # also where it is no number, which must show in the loss
            inside = torch.where(counts, shifted, 0.5)  # any value whose gradient, times 0, is 0
            negative = torch.where(counts, _focused(torch.log1p(-inside), inside.log(), self.gamma_neg), 0)
        return torch.where(target > 0, positive, negative)


def _focused(log_truth: Tensor, log_rest: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p from log p and log(1 - p); a power of 1 - p would have no gradient at 0."""
    return -(gamma * log_rest).exp() * log_truth


def _check_exponents(**exponents: float) -> None:
    for name, value in exponents.items():
        if not value >= 0:
            raise ValueError(f"{name} must be 0 or more, not {value}")
