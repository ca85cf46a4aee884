"""From frames to aligned crops: found, followed through a video, and cut out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aunet.predict.align import crops
from aunet.predict.detect import FaceDetector, Faces
from aunet.predict.frames import Frame
from aunet.predict.rows import empty_rows
from aunet.predict.track import Tracker


@dataclass(frozen=True)
class Found:
    """The faces of some frames.

    Attributes:
        rows: Records of all but what the network says, in the order of the frames; a frame without a face has
            one, too.
        crops: (n, 3, side, side) uint8 of the rows whose ``face`` is not -1.
    """

    rows: npt.NDArray[np.void]
    crops: Tensor


class FaceFinder:
    """Finds the faces of pictures and videos.

    Args:
        detector: Finds them in a picture.
        side: Of a crop, in pixels.
        num_aus: Of the records.
        every: In a video, all faces are looked for in every so many frames, and whenever one is lost; in
            between those that are known are followed.
    """

    def __init__(self, detector: FaceDetector, side: int, num_aus: int, every: int = 1) -> None:
        self.detector = detector
        self.side = side
        self.num_aus = num_aus
        self.every = every

    def in_picture(self, frame: Frame) -> Found:
        """The faces of a picture, numbered from the most certain one on."""
        look = self.detector.look(frame.pixels[None])
        faces = look.faces(0, look.windows([0])[0])
        return self._found([frame], [faces], [np.arange(len(faces), dtype=np.int32)])

    def in_video(self, frames: Sequence[Frame], tracker: Tracker) -> Found:
        """The faces of the next frames of a video, all of one size."""
        look = self.detector.look(np.stack([frame.pixels for frame in frames]))
        whole = [i for i, frame in enumerate(frames) if (frame.number - 1) % self.every == 0]
        windows = dict(zip(whole, look.windows(whole), strict=True))
        found, numbers = [], []
        for i, frame in enumerate(frames):
            expected = tracker.expected(frame.seconds)
            faces = look.faces(i, np.concatenate([windows.get(i, expected[:0]), expected]))
            if i not in windows and len(faces) < len(expected):
                faces = look.faces(i, np.concatenate([look.windows([i])[0], expected]))
            found.append(faces)
            numbers.append(tracker.number(faces.boxes, frame.seconds))
        return self._found(frames, found, numbers)

    def _found(
        self, frames: Sequence[Frame], found: Sequence[Faces], numbers: Sequence[npt.NDArray[np.int32]]
    ) -> Found:
        parts, cut = [], []
        for frame, faces, number in zip(frames, found, numbers, strict=True):
            rows = empty_rows(max(1, len(faces)), self.num_aus)
            rows["frame"], rows["time_s"] = frame.number, frame.seconds
            if len(faces):
                order = np.argsort(number)
                rows["face"], rows["score"] = number[order], faces.scores[order]
                rows["box"], rows["points"] = faces.boxes[order], faces.points[order]
                cut.append(crops(frame.pixels, faces.points[order], self.side, self.detector.device))
            parts.append(rows)
        nothing = torch.empty((0, 3, self.side, self.side), dtype=torch.uint8, device=self.detector.device)
        return Found(np.concatenate(parts), torch.cat(cut) if cut else nothing)


def as_crops(frames: Sequence[Frame], num_aus: int) -> Found:
    """Frames that are aligned crops themselves."""
    pixels = torch.from_numpy(np.stack([frame.pixels for frame in frames])).permute(0, 3, 1, 2)
    return crop_rows(pixels, [f.number for f in frames], [f.seconds for f in frames], num_aus)


def crop_rows(pixels: Tensor, numbers: npt.ArrayLike, seconds: npt.ArrayLike, num_aus: int) -> Found:
    """Aligned crops (n, 3, side, side), with the number and the time of each."""
    rows = empty_rows(len(pixels), num_aus)
    rows["frame"], rows["time_s"], rows["face"] = numbers, seconds, 0
    return Found(rows, pixels)
