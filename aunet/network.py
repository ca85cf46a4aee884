"""AUNet: pixels to AU logits. A pure nn.Module that knows no config, path or loss."""

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aunet.facs import CROP_SIZE, TEMPLATE


class Backbone(Protocol):
    """What AUNet asks of a feature extractor, beside being an nn.Module; see ``aunet.backbones``."""

    num_features: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    frozen: bool
    pretrained: bool


class AULinear(nn.Linear):
    """A weight vector and a bias for each AU, applied to the vector of the image or to that of the AU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's name
        """(B, C) or (B, num_aus, C) -> logits (B, num_aus)."""
        if input.ndim == 2:
            return super().forward(input)
        return torch.einsum("bac,ac->ba", input, self.weight) + self.bias


def linear_classifier(in_features: int, num_aus: int) -> nn.Module:
    """The paper's classifier: one linear layer, Glorot-uniform kernel and zero bias as Keras starts it."""
    layer = AULinear(in_features, num_aus)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp_classifier(
    in_features: int, num_aus: int, hidden: tuple[int, ...], dropout: float = 0.5
) -> nn.Module:
    """Fully connected layers with ReLU and dropout before the output, as in VGG16; AUs share the hidden ones.

    Args:
        in_features: Width of the vector that the aggregator gives.
        num_aus: Number of logits.
        hidden: Widths of the hidden layers; (4096, 4096) for the challenge's baseline.
        dropout: Probability of dropping a hidden unit in training (Simonyan and Zisserman, 2015).
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(in_features, width), nn.ReLU(), nn.Dropout(dropout)]
        in_features = width
    return nn.Sequential(*layers, AULinear(in_features, num_aus))


class AUNet(nn.Module):
    """Normalise -> backbone -> aggregator -> classifier (paper section 3.1).

    Args:
        backbone: Feature extractor under the contract of ``aunet.backbones``.
        attention: Builds the aggregator from ``in_features`` and ``map_size``.
        classifier: Builds the classifier from ``in_features`` and ``num_aus``; the paper's is linear.
        num_aus: Number of AUs.
        image_size: Side of the square input in pixels; fixes the map that the aggregator is built for.

    Attributes:
        image_size: As the argument.
        map_size: (h, w) of the backbone's feature map for that input.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        attention: Callable[..., nn.Module],
        classifier: Callable[..., nn.Module],
        num_aus: int,
        image_size: int = CROP_SIZE,
    ) -> None:
        super().__init__()
        contract = cast("Backbone", backbone)
        self.backbone = backbone
        # Buffers, so that a checkpoint cannot be used with another backbone's pixel statistics.
        self.register_buffer("mean", torch.tensor(contract.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(contract.std).view(1, 3, 1, 1))
        self.image_size = image_size
        self.map_size = _map_size(backbone, image_size)
        self.attention = attention(in_features=contract.num_features, map_size=self.map_size)
        width = cast("int", self.attention.num_features)
        self.classifier = classifier(in_features=width, num_aus=num_aus)

    def preprocessing(self) -> dict[str, Any]:
        """What is done to pictures before the network sees them, beside what its buffers hold.

        Returns:
            ``image_size``, the crop's side, and ``template``, where alignment puts the five points in it.
        """
        scale = self.image_size / CROP_SIZE
        template = [[round(x * scale, 6), round(y * scale, 6)] for x, y in TEMPLATE]
        return {"image_size": self.image_size, "template": template}

    @property
    def frozen_backbone(self) -> bool:
        """Whether the features of a frame never change in training, so that they can be computed once."""
        return cast("Backbone", self.backbone).frozen

    @property
    def pretrained(self) -> bool:
        """Whether the backbone started from trained weights."""
        return cast("Backbone", self.backbone).pretrained

    def features(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float in [0, 255] -> feature map (B, C, h, w)."""
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames must be (B, 3, H, W), got {tuple(frames.shape)}")
        features: Tensor = self.backbone(self.normalise(frames))
        return features

    def normalise(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float in [0, 255] -> what the backbone expects, a new tensor."""
        pixels = frames.to(self.mean.dtype, copy=True)
        if not pixels.is_contiguous(memory_format=torch.channels_last):
            return pixels.sub_(self.mean).div_(self.std)
        # By rows of W x 3 neighbouring values: over 3 at a time a CPU takes seven times as long.
        rows = pixels.permute(0, 2, 3, 1).flatten(2)
        width = frames.shape[3]
        rows.sub_(self.mean.flatten().repeat(width)).div_(self.std.flatten().repeat(width))
        return pixels

    def classify(self, features: Tensor) -> Tensor:
        """Feature map (B, C, h, w) -> logits (B, num_aus)."""
        logits: Tensor = self.classifier(self.attention(features))
        return logits

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or float in [0, 255] -> logits (B, num_aus)."""
        return self.classify(self.features(frames))


def forward_flops(network: AUNet, image_size: int = CROP_SIZE) -> int:
    """Floating-point operations of one image's forward pass; a multiplication and an addition count as two.

    Convolutions and products of matrices are counted, what happens to each value by itself is not.
    """
    mode = network.training
    frames = torch.zeros(1, 3, image_size, image_size, device=network.mean.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(frames)
    network.train(mode)
    return int(counter.get_total_flops())


def _map_size(backbone: nn.Module, image_size: int) -> tuple[int, int]:
    """Height and width of the feature map, from one pass in evaluation mode that leaves no trace."""
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    with torch.no_grad():
        size = backbone(torch.zeros(1, 3, image_size, image_size)).shape
    for module, training in modes.items():
        module.training = training
    return int(size[2]), int(size[3])
