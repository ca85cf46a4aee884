"""The network as it is used: bytes in, probabilities out, without what only training needs."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from aunet.export.check import ExportError
from aunet.network import AUNet

_LAYERS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Detector(nn.Module):
    """Aligned crops -> probabilities, and attention maps where the aggregator attends.

    Made from a copy of the network, which stays as it is: each batch normalisation is folded into the layer
    before it, and the pixels' scale into the first convolution. The mean is not: that convolution pads with
    zeros, which stand for the mean.

    Args:
        network: In any mode; what is made of it is in evaluation mode.
        image_size: Side of the crops in pixels.

    Attributes:
        attends: Whether ``forward`` gives maps.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: AUNet, image_size: int) -> None:
        super().__init__()
        network = copy.deepcopy(network).float().requires_grad_(False).eval()
        fold(network, torch.zeros(2, 3, image_size, image_size))
        self.register_buffer("mean", network.mean)
        self.register_buffer("std", network.std)
        self.backbone, self.attention = network.backbone, network.attention
        self.classifier = network.classifier
        self.attends = hasattr(network.attention, "weights")  # the contract of aunet.attention
        self._shifts, self._scales = bool((self.mean != 0).any()), bool((self.std != 1).any())
        # Weights only: shapes stay (B, C, H, W), and convolutions on a CPU are faster.
        self.to(memory_format=torch.channels_last)
        self.eval()

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Crops (B, H, W, 3) uint8, RGB -> probabilities (B, num_aus) in [0, 1], and perhaps attention maps.

        Maps are (B, h, w), or (B, num_aus, h, w), each summing to 1.
        """
        pixels = frames.permute(0, 3, 1, 2).float()  # channels_last without a copy of its own
        if self._shifts:
            pixels = pixels - self.mean
        if self._scales:
            pixels = pixels / self.std
        features = self.backbone(pixels)
        if not self.attends:
            return (self.classifier(self.attention(features)).sigmoid(),)
        attention = cast("Any", self.attention)
        maps = attention.weights(features)
        return self.classifier(attention.weighted(features, maps)).sigmoid(), maps


def trace(detector: Detector, image_size: int) -> torch.export.ExportedProgram:
    """The detector as a graph, for any number of crops.

    Raises:
        ExportError: The network does what a graph cannot hold.
    """
    crops = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    try:
        with torch.no_grad():
            return torch.export.export(detector, (crops,), dynamic_shapes=({0: Dim("batch", min=1)},))
    except Exception as error:  # whatever torch meets in somebody's own network
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"torch.export cannot follow the network: {first}") from error


def fold(network: AUNet, frames: Tensor) -> None:
    """Folds batch normalisations and the pixels' scale into the layers beside them, in place.

    What follows what is seen in one pass; that nothing else takes a folded layer's output is not, and shows
    where the result is compared with the network's.

    Args:
        network: In evaluation mode.
        frames: (B, 3, H, W), any values.
    """
    normalised, first = _observe(network, frames)
    for norm_name, layer_name in normalised.items():
        layer, norm = network.get_submodule(layer_name), network.get_submodule(norm_name)
        fuse: Any = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
        network.set_submodule(layer_name, fuse(layer.double(), norm.double()).float())
        network.set_submodule(norm_name, nn.Identity())
    if first is not None:
        layer = network.get_submodule(first)
        weight = cast("Tensor", layer.weight)
        layer.weight = nn.Parameter((weight.double() / network.std).float(), requires_grad=False)
        network.std.fill_(1)


def _observe(network: AUNet, frames: Tensor) -> tuple[dict[str, str], str | None]:
    """{normalisation: the layer whose output it takes}, and the convolution that takes the pixels."""
    names = {module: name for name, module in network.named_modules()}
    # By place in memory, so that a reshaped output is known; kept, so that no place is used again.
    made: dict[int, tuple[str, Tensor, int]] = {}
    normalised: dict[str, str] = {}
    first: list[str] = []
    pixels = network.normalise(frames)

    def after_layer(module: nn.Module, _: Any, output: Tensor) -> None:
        made[output.data_ptr()] = names[module], output, output._version

    def before_norm(module: nn.Module, inputs: tuple[Tensor]) -> None:
        layer, output, version = made.get(inputs[0].data_ptr(), ("", inputs[0], -1))
        if output._version == version:  # nothing, such as an activation in place, lies between
            normalised[names[module]] = layer

    def before_layer(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if inputs[0] is pixels and isinstance(module, nn.Conv2d):
            first.append(names[module])

    hooks = []
    for module in names:
        if isinstance(module, _LAYERS):
            hooks += [
                module.register_forward_hook(after_layer),
                module.register_forward_pre_hook(before_layer),
            ]
        elif isinstance(module, _NORMS):
            hooks.append(module.register_forward_pre_hook(before_norm))
    with torch.no_grad():
        network.classify(network.backbone(pixels))
    for hook in hooks:
        hook.remove()
    return normalised, first[0] if first else None
