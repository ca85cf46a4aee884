"""The paper's own network."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from aunet.backbones.base import Backbone


class ConvNet(Backbone):
    """The paper's network (arXiv 2203.12428, section 3): blocks of convolution, normalisation, ReLU, pooling.

    3x3 convolutions of stride 1 with a bias, 2x2 pooling; 1,127,808 parameters by default. The paper leaves
    open how pooling rounds and whether the last block pools. From 112 pixels six pools that round down
    (Keras' default) leave one position, on which attention is the identity; the default here rounds up
    (Keras' ``padding="same"``) and leaves 2x2, so that every sentence of the paper holds. Constants and
    initialisation are Keras', the paper's framework: Glorot-uniform kernels (Glorot and Bengio, 2010), zero
    biases, batch normalisation with eps 1e-3. Pixels are scaled to [0, 1], which the paper does not say, but
    GLAMOR-Net (arXiv 2111.04129) does, whose attention the paper adopts.

    Args:
        filters: Output channels of each block.
        pool_padding: How pooling treats an odd size: ``"floor"`` drops the last row and column, ``"ceil"``
            keeps them.
        pool_last: Whether the last block pools.
        pools: How many blocks pool, counted from the first. None: all, or all but the last without
            ``pool_last``.
        bn_momentum: Weight of the newest batch in the running statistics. 0.01 is Keras' 0.99: after n steps
            a share of 0.99^n is still the initial value, 37% after 100 steps and 2% after 400. Raise it
            (torch's default is 0.1) for trainings that are shorter, or evaluation uses stale statistics.

    Raises:
        ValueError: No filters, an unknown ``pool_padding``, or ``pools`` that contradict ``pool_last``.
    """

    mean = (0.0, 0.0, 0.0)
    std = (255.0, 255.0, 255.0)

    def __init__(
        self,
        filters: Sequence[int] = (32, 64, 128, 128, 256, 256),
        pool_padding: Literal["floor", "ceil"] = "ceil",
        pool_last: bool = True,
        pools: int | None = None,
        bn_momentum: float = 0.01,
    ) -> None:
        if not filters:
            raise ValueError("filters must name the channels of at least one block")
        if pool_padding not in ("floor", "ceil"):
            raise ValueError(f"pool_padding must be 'floor' or 'ceil', not {pool_padding!r}")
        if pools is None:
            pools = len(filters) if pool_last else len(filters) - 1
        if not 0 <= pools <= len(filters) or pool_last != (pools == len(filters)):
            raise ValueError(f"pools={pools} of {len(filters)} blocks contradicts pool_last={pool_last}")
        super().__init__()
        self.num_features = filters[-1]
        for index, (before, after) in enumerate(zip((3, *filters), filters, strict=False)):
            layers: dict[str, nn.Module] = {
                "conv": nn.Conv2d(before, after, kernel_size=3, padding=1),
                "norm": nn.BatchNorm2d(after, eps=1e-3, momentum=bn_momentum),
                "relu": nn.ReLU(inplace=True),
            }
            if index < pools:
                layers["pool"] = nn.MaxPool2d(2, ceil_mode=pool_padding == "ceil")
            self.add_module(f"block{index + 1}", nn.Sequential(OrderedDict(layers)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
