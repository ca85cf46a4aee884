"""Detection metrics from confusion counts: pure functions on NumPy arrays or torch tensors.

The challenge metric (paper Eq. 5): frames of all videos pooled, an AU detected where its probability is at
least 0.5, F1 of the positive class for each AU, unweighted mean over the AUs. Counts are accumulated over a
whole split; F1 values of batches are never averaged.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from aunet.facs import au_column

ArrayT = TypeVar("ArrayT", npt.NDArray[Any], torch.Tensor)

THRESHOLD = 0.5
"""Probability from which on an AU counts as detected."""


def confusion_counts(probs: ArrayT, labels: ArrayT, threshold: float = THRESHOLD) -> ArrayT:
    """True positives, false positives and false negatives of each AU.

    Args:
        probs: (N, num_aus) probabilities in [0, 1].
        labels: (N, num_aus) occurrence labels in {0, 1, -1}; elements of -1 are not counted.
        threshold: An AU is detected where ``probs >= threshold``.

    Returns:
        (3, num_aus) int64 counts: tp, fp, fn.
    """
    if probs.shape != labels.shape:
        raise ValueError(f"probs {tuple(probs.shape)} and labels {tuple(labels.shape)} differ in shape")
    detected, present, absent = probs >= threshold, labels == 1, labels == 0
    counts = ((detected & present).sum(0), (detected & absent).sum(0), (~detected & present).sum(0))
    if isinstance(probs, torch.Tensor):
        return torch.stack([torch.as_tensor(c) for c in counts])
    return np.stack(counts)


def f1_per_au(counts: ArrayT) -> ArrayT:
    """F1 of each AU's positive class from its counts.

    Args:
        counts: (3, num_aus) true positives, false positives, false negatives.

    Returns:
        (num_aus,) float64 in [0, 1]; 0 where an AU is neither present nor detected (zero_division = 0).
    """
    tp, fp, fn = counts[0], counts[1], counts[2]
    return _share(2 * tp, 2 * tp + fp + fn)


def precision_per_au(counts: ArrayT) -> ArrayT:
    """Share of the detections of each AU that are right; as ``f1_per_au``, 0 where it is never detected."""
    return _share(counts[0], counts[0] + counts[1])


def recall_per_au(counts: ArrayT) -> ArrayT:
    """Share of each AU's frames in which it is detected; as ``f1_per_au``, 0 where it is never present."""
    return _share(counts[0], counts[0] + counts[2])


def _share(part: ArrayT, whole: ArrayT) -> ArrayT:
    """float64 quotient of counts; 0 where ``whole`` is 0, since ``part`` is 0 there, too."""
    safe = whole + (whole == 0)
    if isinstance(part, torch.Tensor):
        return part.double() / safe.double()
    return np.asarray(part / safe, dtype=np.float64)


def f1_metrics(counts: ArrayT, aus: Sequence[int], prefix: str = "val/f1") -> dict[str, float]:
    """Macro F1 (paper Eq. 5) under ``prefix`` and each AU's F1 under ``prefix/AU<n>``."""
    f1 = [float(value) for value in f1_per_au(counts)]
    return {
        prefix: float(np.mean(f1)),
        **{f"{prefix}/{au_column(au)}": v for au, v in zip(aus, f1, strict=True)},
    }


def all_present_f1(labels: npt.NDArray[np.int8]) -> float:
    """Macro F1 of the trivial predictor that detects every AU in every frame.

    Args:
        labels: (N, num_aus) in {0, 1, -1}.
    """
    counts = confusion_counts(np.ones_like(labels), labels)
    return float(f1_per_au(counts).mean())


def random_f1(labels: npt.NDArray[np.int8], rates: npt.NDArray[np.float64]) -> float:
    """Macro F1 of the trivial predictor that detects AU i by chance with probability ``rates[i]``.

    From the expected counts, so that no seed is involved: tp = r P, fp = r (N - P), fn = (1 - r) P.

    Args:
        labels: (N, num_aus) in {0, 1, -1}.
        rates: (num_aus,) occurrence rates in [0, 1], usually those of the training split.
    """
    present, absent = (labels == 1).sum(0), (labels == 0).sum(0)
    return float(f1_per_au(np.stack([rates * present, rates * absent, (1 - rates) * present])).mean())
