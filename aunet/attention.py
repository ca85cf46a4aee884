"""Spatial aggregators: a feature map (B, C, h, w) becomes one vector per image, or one for each AU.

Contract: built with ``in_features`` (C) and ``map_size`` (h, w); attribute ``num_features``, the width of
the vectors; ``forward`` gives (B, num_features), one vector for all AUs, or (B, num_aus, num_features).
Those that attend give their weights by ``weights(features)``: (B, h, w) or (B, num_aus, h, w), each map
summing to 1; ``weighted(features, weights)`` is then what ``forward`` gives.
"""

import math
import warnings

import torch
from torch import Tensor, nn


class AveragePool(nn.Module):
    """Mean over the positions: what replaces attention in the row without it.

    Args:
        in_features: Channels C of the feature map.
        map_size: (h, w) of the feature map; not needed here.
    """

    def __init__(self, in_features: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.num_features = in_features

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C)."""
        return features.mean((2, 3))


class Flatten(nn.Module):
    """All positions side by side, as the fully connected layers of VGG16 read them.

    Args:
        in_features: Channels C of the feature map.
        map_size: (h, w) of the feature map.
    """

    def __init__(self, in_features: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.num_features = in_features * math.prod(map_size)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C h w)."""
        return features.flatten(1)


class GlobalLocalAttention(nn.Module):
    """A softmax map over the positions, one for all AUs (paper section 3.1, Figure 2 and Eq. 1) or one each.

    Each position's vector v passes FC -> BatchNorm -> ReLU -> FC(1), which gives its score; the softmax of
    the scores over the positions weights the sum of the original vectors. Batch normalisation acts on the
    hidden features with statistics over batch and positions. After Le et al., "Global-local attention for
    emotion recognition" (Neural Computing and Applications, 2021), without its face branch. Keras' constants:
    kernels Glorot-uniform, biases 0, BatchNorm epsilon 1e-3.

    With ``maps`` the last layer of the scoring network gives one score for each AU, each AU has a map and a
    weighted sum of its own, and the classifier's weights of an AU meet that AU's vector alone. That is a step
    beyond the paper: one map must serve the brow and the mouth at once.

    Args:
        in_features: Channels C of the feature map.
        map_size: (h, w) of the feature map; one position makes the module the identity, which warns.
        hidden_features: Width of the scoring network; the paper does not say, its source has 128.
        bn_momentum: torch's momentum of the running statistics; Keras' default of 0.99 is 0.01 here.
        maps: Number of AUs for one map each; None, as in the paper: one for all.
    """

    def __init__(
        self,
        in_features: int,
        map_size: tuple[int, int],
        hidden_features: int = 128,
        bn_momentum: float = 0.01,
        maps: int | None = None,
    ) -> None:
        super().__init__()
        self.num_features = in_features
        self.maps = maps
        self.hidden = nn.Linear(in_features, hidden_features)
        self.norm = nn.BatchNorm1d(hidden_features, eps=1e-3, momentum=bn_momentum)
        self.relu = nn.ReLU()
        self.score = nn.Linear(hidden_features, maps or 1)
        for layer in (self.hidden, self.score):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if math.prod(map_size) == 1:
            warnings.warn(
                "attention over a single position is the identity: the feature map is 1x1, the softmax gives "
                "it weight 1 and the scoring network gets no gradient (use a backbone with a larger map)",
                stacklevel=2,
            )

    def weights(self, features: Tensor) -> Tensor:
        """Attention maps: (B, C, h, w) -> (B, h, w), or (B, maps, h, w); every map sums to 1."""
        batch, _, *size = features.shape
        vectors = features.flatten(2).transpose(1, 2)  # (B, h w, C)
        hidden = self.relu(self.norm(self.hidden(vectors).flatten(0, 1)))  # (B h w, hidden)
        scores: Tensor = self.score(hidden).view(batch, math.prod(size), -1)
        maps = scores.softmax(1).transpose(1, 2).reshape(batch, -1, *size)
        return maps.squeeze(1) if self.maps is None else maps

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C), Eq. 1, or (B, maps, C)."""
        return self.weighted(features, self.weights(features))

    def weighted(self, features: Tensor, weights: Tensor) -> Tensor:
        """The sum over the positions: (B, C, h, w) and ``weights`` of it -> (B, C), or (B, maps, C)."""
        equation = "bchw,bhw->bc" if self.maps is None else "bchw,bahw->bac"
        return torch.einsum(equation, features, weights)
