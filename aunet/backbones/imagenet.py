"""Torchvision's ImageNet networks without pooling, classifier and auxiliary outputs.

The modules keep torchvision's parameter names, so a torchvision state dict loads into them as it is.
"""

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torchvision.models import (
    EfficientNet_B0_Weights,
    Inception_V3_Weights,
    ResNet50_Weights,
    VGG16_Weights,
    efficientnet_b0,
    inception_v3,
    resnet50,
)
from torchvision.models.vgg import cfgs, make_layers

from aunet.backbones.base import Backbone, Triple
from aunet.weights import download, load_into, load_state

Trainable = Literal["all", "none"]

VGGFACE_MEAN: Triple = (129.1863, 104.7624, 93.5940)
"""Mean of VGGFACE's pixels, RGB in 0..255 (Parkhi et al., 2015)."""


class ImageNetBackbone(Backbone):
    """What the ImageNet networks share: the trunk of a torchvision model, its weights, and freezing.

    Args:
        network: Model whose children before the pooling are kept, in order and under their names.
        weights: ``"imagenet"``, ``"none"`` (random) or a file: a state dict of the torchvision model, with or
            without its classifier, or a checkpoint of this package.
        trainable: ``"all"``, or ``"none"``: nothing learns, and the batch statistics stay those of the
            weights.

    Raises:
        WeightsError: The weights cannot be had or do not fit; there is no silent random start.
        ValueError: Unknown ``trainable``.
    """

    heads = ("AuxLogits", "avgpool", "dropout", "fc", "classifier")
    url: str

    def __init__(self, network: nn.Module, weights: str, trainable: Trainable) -> None:
        if trainable not in ("all", "none"):
            raise ValueError(f"trainable must be 'all' or 'none', not {trainable!r}")
        trunk = {name: child for name, child in network.named_children() if name not in self.heads}
        super().__init__(OrderedDict(trunk))
        self.pretrained = weights != "none"
        self.frozen = trainable == "none"
        if self.pretrained:
            path = self.imagenet_file() if weights == "imagenet" else Path(weights).expanduser()
            load_into(self, self.rename(load_state(path)), path, ignore=self.heads)
        if self.frozen:
            self.requires_grad_(False).eval()
        if self.frozen and not self.pretrained:
            name = type(self).__name__
            message = f"{name} is frozen with random weights: its features are random projections"
            warnings.warn(message, UserWarning, stacklevel=3)

    @classmethod
    def imagenet_file(cls) -> Path:
        """File of the ImageNet weights, downloaded if need be.

        Returns:
            The file's path.

        Raises:
            WeightsError: The file cannot be had.
        """
        return download(cls.url)

    @classmethod
    def rename(cls, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Translate the names in a weight file into this module's. By default they are the same.

        Args:
            state: Parameter name in the file -> tensor.

        Returns:
            Parameter name here -> tensor.
        """
        return state


class ResNet50(ImageNetBackbone):
    """ResNet-50 (He et al., 2016): 2048 features, 4x4 from 112 pixels.

    Uses torchvision's first weights (76.1% top-1), trained by the plain recipe that Keras' weights had too
    when the paper was written; the second ones come from a much longer recipe.

    Args:
        weights: ``"imagenet"``, ``"none"`` or a file; see :class:`ImageNetBackbone`.
        trainable: ``"all"`` or ``"none"``; see :class:`ImageNetBackbone`.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
    """

    num_features = 2048
    url = ResNet50_Weights.IMAGENET1K_V1.url

    def __init__(self, weights: str = "imagenet", trainable: Trainable = "all") -> None:
        super().__init__(resnet50(), weights, trainable)


class InceptionV3(ImageNetBackbone):
    """Inception v3 (Szegedy et al., 2016): 2048 features, 2x2 from 112 pixels; needs at least 75 pixels.

    The weights came from TensorFlow and expect pixels in [-1, 1]. Torchvision normalises by ImageNet's
    statistics and maps the result to [-1, 1] inside the model (``transform_input``); here the statistics say
    it directly.

    Args:
        weights: ``"imagenet"``, ``"none"`` or a file; see :class:`ImageNetBackbone`.
        trainable: ``"all"`` or ``"none"``; see :class:`ImageNetBackbone`.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
    """

    num_features = 2048
    mean = (127.5, 127.5, 127.5)
    std = (127.5, 127.5, 127.5)
    url = Inception_V3_Weights.IMAGENET1K_V1.url

    def __init__(self, weights: str = "imagenet", trainable: Trainable = "all") -> None:
        network = inception_v3(aux_logits=False, init_weights=weights == "none")
        super().__init__(network, weights, trainable)


class EfficientNetB0(ImageNetBackbone):
    """EfficientNet-B0 (Tan and Le, 2019): 1280 features, 4x4 from 112 pixels.

    Args:
        weights: ``"imagenet"``, ``"none"`` or a file; see :class:`ImageNetBackbone`.
        trainable: ``"all"`` or ``"none"``; see :class:`ImageNetBackbone`.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
    """

    num_features = 1280
    url = EfficientNet_B0_Weights.IMAGENET1K_V1.url

    def __init__(self, weights: str = "imagenet", trainable: Trainable = "all") -> None:
        super().__init__(efficientnet_b0(), weights, trainable)


class VGG16(ImageNetBackbone):
    """The convolutional part of VGG-16 (Simonyan and Zisserman, 2015): 512 features, 3x3 from 112 pixels.

    The challenge's baseline uses weights trained on VGGFACE (Parkhi et al., 2015), which cannot be shipped
    here; ImageNet's are a substitute. VGGFACE's expect RGB pixels in 0..255 of which only the mean was taken
    off; ports of the Caffe model want BGR: reverse the input channels of their first kernel.

    Args:
        weights: ``"imagenet"``, ``"none"`` or a file; see :class:`ImageNetBackbone`.
        trainable: ``"all"`` or ``"none"``; see :class:`ImageNetBackbone`.
        vggface: File of VGGFACE weights under torchvision's names, in the place of ``weights``; None: none.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
    """

    num_features = 512
    url = VGG16_Weights.IMAGENET1K_V1.url

    def __init__(
        self,
        weights: str = "imagenet",
        trainable: Trainable = "all",
        vggface: str | None = None,
    ) -> None:
        features = make_layers(cfgs["D"])  # vgg16() would first fill a classifier of 124 M parameters
        for layer in features:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        super().__init__(nn.Sequential(OrderedDict(features=features)), vggface or weights, trainable)
        if vggface:
            self.mean, self.std = VGGFACE_MEAN, (1.0, 1.0, 1.0)
