"""Feature extractors: a batch of normalised images -> a map of features.

The contract (:class:`Backbone`) is the same for the paper's own convolutional network and for the ImageNet
networks that Table 1 compares it with (arXiv 2203.12428).
"""

from aunet.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from aunet.backbones.convnet import ConvNet
from aunet.backbones.imagenet import VGG16, EfficientNetB0, ImageNetBackbone, InceptionV3, ResNet50
from aunet.backbones.lite import EfficientNetLite0

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VGG16",
    "Backbone",
    "ConvNet",
    "EfficientNetB0",
    "EfficientNetLite0",
    "ImageNetBackbone",
    "InceptionV3",
    "ResNet50",
]
