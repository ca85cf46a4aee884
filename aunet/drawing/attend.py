"""What a network attends to in the faces of a frame, and where that lies in the frame."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from aunet.localisation.maps import Maps, nearest_positions, own_attention, position_centres
from aunet.overlays import heat
from aunet.predict import Predictor
from aunet.predict.align import crops, similarity, template

Maps28 = npt.NDArray[np.float64]
"""(n, 28, 28) attention over crops, each map summing to 1."""


class Attention:
    """The attention of a predictor's network.

    Args:
        predictor: Whose network.

    Attributes:
        attends: Whether the network attends, and to more than one position; without, nothing can be shown.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.network, self.side, self.device = predictor.network, predictor.image_size, predictor.device
        self.attends = hasattr(self.network.attention, "weights") and math.prod(self.network.map_size) > 1
        if self.attends:
            centres = position_centres(self.network.backbone, self.side)
            self._rows, self._columns = (nearest_positions(along, self.side) for along in centres)

    def maps(self, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.void], crop: bool = False) -> Maps28:
        """Maps of the faces of a frame; of one map for each AU, the mean over the AUs that are present.

        Args:
            pixels: (H, W, 3) RGB of the frame.
            rows: (n,) records of faces that are seen in it.
            crop: The frame is an aligned crop itself.

        Returns:
            (n, 28, 28), or (0, 28, 28) if the network does not attend.
        """
        if not self.attends or not len(rows):
            return np.empty((0, 28, 28))
        if crop:
            faces = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self.device)
        else:
            faces = crops(pixels, rows["points"], self.side, self.device)
        with torch.inference_mode():
            weights = own_attention(self.network, self.network.features(faces))
        if weights is None:
            raise RuntimeError("the network has attention weights, and gives none")
        maps = Maps(weights.float().cpu().numpy(), self._rows, self._columns)
        return np.stack([
            maps.on_grid(aus * 0 + face, aus).mean(0)
            for face, aus in enumerate(map(_shown, rows["occurrence"]))
        ])  # fmt: skip


def _shown(occurrence: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Columns of the AUs that are present; of all if none is."""
    present = np.flatnonzero(occurrence == 1)
    return present if len(present) else np.arange(len(occurrence))


def lay_over(picture: Image.Image, attention: Maps28, points: npt.NDArray[Any] | None, side: int) -> None:
    """Lays one face's attention over a picture.

    Args:
        picture: RGB; changed.
        attention: (28, 28).
        points: (5, 2) of the face in pixels of the picture; None: the picture is an aligned crop.
        side: Of crops, in pixels.
    """
    hot = heat(attention, (side, side))
    hot[..., 3] *= 255
    layer = Image.fromarray(hot.round().astype(np.uint8), "RGBA")
    if points is None:
        layer, corner = layer.resize(picture.size, Image.Resampling.BILINEAR), (0, 0)
    else:
        matrix = similarity(points[None], template(side))[0]
        back = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
        corners = back @ np.array([(0, side, 0, side), (0, 0, side, side), (1, 1, 1, 1)], np.float64)
        low = np.maximum(np.floor(corners.min(1)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(1)), picture.size).astype(int)
        if (low >= high).any():
            return
        matrix[:, 2] += matrix[:, :2] @ low  # the layer begins at this corner of the picture
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        layer = layer.transform(
            size, Image.Transform.AFFINE, matrix.ravel().tolist(), Image.Resampling.BILINEAR
        )
        corner = (int(low[0]), int(low[1]))
    picture.paste(layer.convert("RGB"), corner, layer.getchannel("A"))
