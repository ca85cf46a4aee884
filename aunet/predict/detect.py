"""Finds faces and their five points in pictures.

Coordinates are pixels, x to the right and y down, from the upper left corner of the picture: the centre of
its first pixel is at (0.5, 0.5), as in ``facs.TEMPLATE``. Boxes are x0, y0, x1, y1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, nms, roi_align

from aunet.predict.mtcnn import CascadeNet

SMALLEST = 40.0
"""Side in pixels of the smallest face that is looked for by default."""

LARGEST_SIDE = 1280
"""Pictures with a longer side are looked at in this size, as far as the smallest face can still be seen in
it; crops are taken from the original."""

LEAST_SEEN = 20.0
"""Side in pixels of a face below which MTCNN begins to miss it."""

CELL = 12
"""Side of P-Net's window, in pixels."""

_STRIDE = 2
_STEP = 0.709
"""Between two sizes in which P-Net sees a picture: half the area, as its authors have it."""

_THRESHOLDS = 0.6, 0.7, 0.7
"""Least score of a face after each network."""

_MIRRORED = [1, 0, 2, 4, 3]
"""Of the five points, which is which in a mirror."""

_MOST_WINDOWS = 300
"""Of a picture, the best ones, that R-Net looks at: noise and foliage have thousands."""


@dataclass(frozen=True)
class Faces:
    """The n faces of a picture, the most certain first.

    Attributes:
        boxes: (n, 4).
        points: (n, 5, 2), in the order of ``facs.TEMPLATE``.
        scores: (n,) in [0, 1].
    """

    boxes: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


class FaceDetector:
    """MTCNN: a cascade of three small networks; the last one also follows faces from frame to frame.

    Args:
        device: Where it runs.
        smallest: Side of the smallest face to look for, in pixels of the picture; at least CELL.
    """

    def __init__(self, device: torch.device, smallest: float = SMALLEST) -> None:
        self.device = device
        self.smallest = smallest
        self.pnet, self.rnet, self.onet = (CascadeNet(name).to(device) for name in ("pnet", "rnet", "onet"))

    def look(self, pictures: npt.NDArray[np.uint8]) -> "Look":
        """Takes (B, H, W, 3) RGB pictures onto the device, shrunk if they are large."""
        return Look(self, pictures)


class Look:
    """Pictures of one size that a detector looks at.

    Args:
        detector: Whose networks.
        pictures: (B, H, W, 3) RGB in [0, 255].
    """

    def __init__(self, detector: FaceDetector, pictures: npt.NDArray[np.uint8]) -> None:
        self.detector = detector
        height, width = pictures.shape[1:3]
        self.scale = min(1.0, max(LARGEST_SIDE / max(height, width), LEAST_SEEN / detector.smallest))
        pixels = torch.from_numpy(pictures).to(detector.device).permute(0, 3, 1, 2)
        if self.scale < 1:
            pixels = _resized(pixels, self.scale)
        self.pixels = pixels

    @torch.inference_mode()
    def windows(self, which: Sequence[int]) -> list[npt.NDArray[np.float32]]:
        """Boxes (n, 4) in some of the pictures that may hold a face: the first two networks' choice."""
        if not which:
            return []
        boxes, index = self._proposals(self.pixels[list(which)])
        chosen = []
        for number, i in enumerate(which):
            squares = _squares(boxes[index == number][:_MOST_WINDOWS])
            if len(squares):
                score, offset = self.detector.rnet(self._patches(i, squares, 24))
                good = score >= _THRESHOLDS[1]
                squares = _moved(squares, offset)[good]
                squares = squares[nms(squares, score[good], 0.7)]
            chosen.append((squares / self.scale).cpu().numpy())
        return chosen

    def _proposals(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """P-Net's boxes (n, 4), the best first, and the picture of each."""
        scale = CELL / (self.detector.smallest * self.scale)
        found, which = (
            [pixels.new_zeros((0, 5), dtype=torch.float32)],
            [pixels.new_zeros(0, dtype=torch.int64)],
        )
        while min(pixels.shape[2:]) * scale >= CELL:
            score, offset = self.detector.pnet(_normalised(_resized(pixels, scale)))
            index, y, x = (score >= _THRESHOLDS[0]).nonzero(as_tuple=True)
            corner = torch.stack([x, y, x, y], 1) * float(_STRIDE)
            corner[:, 2:] += CELL
            boxes = (corner + offset[index, :, y, x] * CELL) / scale
            score = score[index, y, x]
            kept = batched_nms(boxes, score, index, 0.5)
            found.append(torch.cat([boxes, score[:, None]], 1)[kept])
            which.append(index[kept])
            scale *= _STEP
        boxes, index = torch.cat(found), torch.cat(which)
        kept = batched_nms(boxes[:, :4], boxes[:, 4], index, 0.7)
        return boxes[kept, :4], index[kept]

    @torch.inference_mode()
    def faces(self, index: int, windows: npt.NDArray[np.float32]) -> Faces:
        """The faces in some windows of a picture: the last network's judgement.

        Args:
            index: Of the picture.
            windows: (n, 4) boxes, of ``windows`` or where faces are expected.
        """
        values = np.empty((0, 15), np.float32)
        if len(windows):
            squares = _squares(torch.from_numpy(windows).to(self.pixels.device) * self.scale)
            score, offset, _ = self.detector.onet(self._patches(index, squares, 48))
            boxes = _moved(squares, offset)
            good = score >= _THRESHOLDS[2]
            boxes, score = boxes[good], score[good]
            kept = _distinct(boxes.cpu().numpy(), score.cpu().numpy())
            boxes, score = boxes[kept], score[kept]
            places = torch.cat([boxes, self._points(index, boxes).flatten(1)], 1) / self.scale
            values = torch.cat([score[:, None], places], 1).cpu().numpy()
        return Faces(values[:, 1:5], values[:, 5:].reshape(-1, 5, 2), values[:, 0])

    def _points(self, index: int, boxes: Tensor) -> Tensor:
        """(n, 5, 2) points of the faces in boxes (n, 4).

        Each face is looked at once more in the middle of its box, and mirrored: the mean of both scatters by
        a tenth less than the points of the window in which it was found.
        """
        squares = _squares(boxes)
        patches = self._patches(index, squares, 48)
        # Mirrored, the eyes change places, and so do the corners of the mouth.
        straight, mirrored = (
            self.detector.onet(pixels)[2].unflatten(1, (2, 5)).transpose(1, 2)
            for pixels in (patches, patches.flip(3))
        )
        back = torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], 2)[:, _MIRRORED]
        side = (squares[:, 2] - squares[:, 0])[:, None, None]
        points: Tensor = squares[:, None, :2] + (straight + back) / 2 * side
        return points

    def _patches(self, index: int, boxes: Tensor, side: int) -> Tensor:
        """Squares (n, 3, side, side) of a picture, in [-1, 1]; grey outside of it."""
        picture = _normalised(self.pixels[index : index + 1])
        patches: Tensor = roi_align(picture, [boxes], side, sampling_ratio=-1, aligned=True)
        return patches


def _normalised(pixels: Tensor) -> Tensor:
    return (pixels.float() - 127.5) / 128


def _resized(pixels: Tensor, scale: float) -> Tensor:
    """(B, 3, H, W) uint8 pictures in another size: uint8 on a CPU, float on CUDA, which knows no other."""
    height, width = (max(1, round(side * scale)) for side in pixels.shape[2:])
    pixels = pixels if pixels.device.type == "cpu" else pixels.float()
    return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True, align_corners=False)


def _squares(boxes: Tensor) -> Tensor:
    """Boxes about the same centres, as wide and as high as the longer side."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)


def _moved(boxes: Tensor, offset: Tensor) -> Tensor:
    """Square boxes with their corners moved by parts of their side."""
    return boxes + offset * (boxes[:, 2:3] - boxes[:, :1])


def _distinct(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> list[int]:
    """Rows of the boxes that no better one covers by 0.7 of the smaller of the two, the best first."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        shared = np.minimum(boxes[row, 2:], boxes[kept, 2:]) - np.maximum(boxes[row, :2], boxes[kept, :2])
        covered = np.prod(np.maximum(shared, 0), axis=1) / np.minimum(area[row], area[kept])
        if (covered <= 0.7).all():
            kept.append(row)
    return kept
