"""What every backbone promises."""

from typing import Self

from torch import nn

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (123.675, 116.28, 103.53)
"""Mean of ImageNet's pixels, RGB in 0..255 (torchvision's 0.485, 0.456, 0.406)."""
IMAGENET_STD: Triple = (58.395, 57.12, 57.375)
"""Standard deviation of ImageNet's pixels, RGB in 0..255 (torchvision's 0.229, 0.224, 0.225)."""


class Backbone(nn.Sequential):
    """The contract: ``(B, 3, H, W)`` floats, RGB, as ``(pixel - mean) / std`` -> ``(B, num_features, h, w)``.

    The same in training and in evaluation mode. The caller normalises; the backbone says with which
    statistics.

    Attributes:
        num_features: Channels of the output.
        mean: Per-channel mean that the weights expect, on the scale 0..255.
        std: Per-channel standard deviation that the weights expect, on the scale 0..255.
        pretrained: Whether the weights came from a file; if not, a table says "from scratch".
        frozen: Whether no parameter learns and no running statistic moves; the module then stays in
            evaluation mode.
    """

    num_features: int
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    pretrained: bool = False
    frozen: bool = False

    def train(self, mode: bool = True) -> Self:
        """Set training mode, unless the backbone is frozen.

        Args:
            mode: True for training, False for evaluation.

        Returns:
            The backbone.
        """
        return super().train(mode and not self.frozen)
