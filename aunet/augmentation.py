"""Augmentation of training batches on their device, from (seed, epoch, row of the frame) alone.

Pictures are changed by kornia's functions, with a value of each parameter for each frame. The draws are made
here: kornia's come from torch's global generator, so that a frame's would depend on the frames before it, on
the batch size and on the device.

Microseconds a frame on 2 CPU cores (EPYC, batch of 256, 112x112, medians of 7 interleaved repeats, 5 for the
last two); a training step of the custom CNN costs about 10,000:

    flip, affine, colour    kornia's modules 362, its functions (used here) 276, written in plain torch 251
    blur                    kornia 67, plain torch 351; only frames that draw it pay
    JPEG                    kornia 686, plain torch 186; only frames that draw it pay
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from kornia import enhance
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import get_affine_matrix2d, warp_affine
from torch import Tensor

# A frame's draws; a name that is added at the end leaves the others as they were.
_DRAWS = (
    *("flip", "degrees", "scale", "shift_x", "shift_y"),
    *("brightness", "contrast", "saturation"),
    *("blur", "sigma"),
    *("erase", "area", "aspect", "left", "top", "red", "green", "blue"),
    *("noise", "quality"),
)

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # splitmix64's constants as signed numbers
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True)
class Augmentation:
    """Changes each frame at random: geometry, colour, blur, erasing, JPEG noise, in this order.

    A strength of 0 leaves its step out; with the defaults nothing is changed. A frame that an epoch takes
    more than once is changed in the same way each time.

    Attributes:
        flip: Probability of mirroring left and right.
        degrees: Rotation about the centre is uniform in [-degrees, degrees].
        scale: Magnification is uniform in [1 - scale, 1 + scale].
        shift: Shift of x and of y is uniform in [-shift, shift] sides. What comes into view is a reflection.
        brightness: Factor on all values, uniform in [1 - brightness, 1 + brightness].
        contrast: Factor on the distance from the mean luma, uniform in [1 - contrast, 1 + contrast].
        saturation: Factor on the distance from the pixel's luma, uniform in [1 - saturation, 1 + saturation].
        blur: Probability of a Gaussian blur.
        blur_sigma: Its standard deviation in pixels, uniform in this range.
        erase: Probability of painting a rectangle in one random colour (random erasing, Zhong et al. 2020).
        erase_area: Its part of the picture's area, uniform in this range; height : width is 1:2 to 2:1.
        noise: Probability of JPEG's artefacts: 8x8 blocks, quantised DCT, chroma of half the resolution.
        noise_quality: JPEG quality in libjpeg's sense, uniform in this range.

    Raises:
        ValueError: A value is outside its range.
    """

    flip: float = 0.0
    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    blur: float = 0.0
    blur_sigma: Sequence[float] = (0.4, 1.0)
    erase: float = 0.0
    erase_area: Sequence[float] = (0.02, 0.1)
    noise: float = 0.0
    noise_quality: Sequence[float] = (30, 90)

    def __post_init__(self) -> None:
        most = {"degrees": 180.0, "scale": 0.5, "shift": 0.5}
        for name in ("flip", *most, "brightness", "contrast", "saturation", "blur", "erase", "noise"):
            value, limit = getattr(self, name), most.get(name, 1.0)
            if not 0 <= value <= limit:
                raise ValueError(f"augmentation.{name}={value} must be in [0, {limit:g}]")
        # A rectangle of half the area is as long as the picture when its sides are 1:2.
        ranges = {"blur_sigma": (0.1, 5), "erase_area": (0, 0.5), "noise_quality": (1, 100)}
        for name, (low, high) in ranges.items():
            values = list(getattr(self, name))
            if len(values) != 2 or not low <= values[0] <= values[1] <= high:
                raise ValueError(
                    f"augmentation.{name}={values} must be two rising numbers in [{low}, {high}]"
                )

    @torch.no_grad()
    def __call__(self, frames: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
        """Augmented frames, on the device and in the memory format of ``frames``.

        Args:
            frames: (B, 3, H, W) uint8.
            index: (B,) int64, a number for each frame that is its own: its row in the table.
            seed: Of the run.
            epoch: Number of the epoch.

        Returns:
            (B, 3, H, W) float32 in [0, 255].

        Raises:
            ValueError: ``frames`` or ``index`` is not of that shape.
        """
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames must be (B, 3, H, W), got {tuple(frames.shape)}")
        if index.shape != frames.shape[:1]:
            raise ValueError(f"index must be ({len(frames)},), got {tuple(index.shape)}")
        channels_last = frames.is_contiguous(memory_format=torch.channels_last)
        draws = uniforms(index.to(frames.device), seed, epoch, len(_DRAWS))
        u = dict(zip(_DRAWS, draws.unbind(1), strict=True))
        x = self._damage(self._colour(self._geometry(frames.float() / 255, u), u), u) * 255
        return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def _geometry(self, x: Tensor, u: dict[str, Tensor]) -> Tensor:
        flip = u["flip"] < self.flip
        if self.degrees or self.scale or self.shift:
            angle, zoom = _around(0, self.degrees, u["degrees"]), _around(1, self.scale, u["scale"])
            shift = _around(0, self.shift, torch.stack((u["shift_x"], u["shift_y"]), 1))
            return warp(x, flip, angle, zoom, shift)
        return torch.where(flip[:, None, None, None], x.flip(-1), x) if self.flip else x

    def _colour(self, x: Tensor, u: dict[str, Tensor]) -> Tensor:
        if self.brightness:
            x = enhance.adjust_brightness_accumulative(x, _around(1, self.brightness, u["brightness"]))
        if self.contrast:
            x = enhance.adjust_contrast_with_mean_subtraction(x, _around(1, self.contrast, u["contrast"]))
        if self.saturation:
            factor = _around(1, self.saturation, u["saturation"])
            x = enhance.adjust_saturation_with_gray_subtraction(x, factor)
        return x

    def _damage(self, x: Tensor, u: dict[str, Tensor]) -> Tensor:
        if self.blur:
            step = partial(blur, radius=math.ceil(3 * self.blur_sigma[1]))  # the same for all frames
            x = _where(u["blur"] < self.blur, step, x, _between(self.blur_sigma, u["sigma"]))
        if self.erase:
            size = _between(self.erase_area, u["area"]), 2 ** _around(0, 1, u["aspect"])
            colour = torch.stack((u["red"], u["green"], u["blue"]), 1)
            x = _where(u["erase"] < self.erase, erase, x, *size, u["left"], u["top"], colour)
        if self.noise:
            x = _where(u["noise"] < self.noise, jpeg, x, _between(self.noise_quality, u["quality"]))
        return x


def uniforms(index: Tensor, seed: int, epoch: int, draws: int) -> Tensor:
    """Random numbers that depend on nothing but the arguments: splitmix64 (Steele et al. 2014), hashed keys.

    In integers on the device of ``index``: the same numbers everywhere, and the host need not wait for a GPU.

    Args:
        index: (B,) int64.
        seed: Below 2^63 in size, as ``epoch``.
        epoch: Number of the epoch.
        draws: How many for each index.

    Returns:
        (B, draws) float32 in [0, 1), multiples of 2^-24.
    """
    epochs_key = _mix(_mix(torch.tensor(seed) + _GOLDEN) + epoch + _GOLDEN)
    key = _mix(index + int(epochs_key))
    counter = torch.arange(1, draws + 1, device=index.device)
    bits = _mix(key[:, None] + counter * _GOLDEN)
    return _shifted(bits, 40).float() / (1 << 24)


def warp(x: Tensor, flip: Tensor, degrees: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Mirrors, then turns and magnifies about the centre, then shifts; bilinear, in one resampling.

    Args:
        x: (B, C, H, W) float.
        flip: (B,) bool.
        degrees: (B,), counter-clockwise.
        zoom: (B,), above 1 magnifies.
        shift: (B, 2) x and y, in sides; positive to the right and down.
    """
    height, width = x.shape[-2:]
    sides = torch.stack((torch.full_like(zoom, width), torch.full_like(zoom, height)), 1)
    affine = get_affine_matrix2d(shift * sides, (sides - 1) / 2, torch.stack((zoom, zoom), 1), -degrees)
    mirror = torch.zeros_like(affine)
    mirror[:, 0, 0] = 1 - 2 * flip.to(x.dtype)
    mirror[:, 0, 2] = (width - 1) * flip.to(x.dtype)
    mirror[:, 1, 1] = mirror[:, 2, 2] = 1
    # Aligned crops are filled to the edge: a reflection looks more like a face than streaks of the border do.
    return warp_affine(x, (affine @ mirror)[:, :2], (height, width), padding_mode="reflection")


def blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur of (B, C, H, W) by (B,) pixels, the kernel cut off at ``radius`` pixels."""
    return gaussian_blur2d(x, 2 * radius + 1, torch.stack((sigma, sigma), 1))


def erase(x: Tensor, area: Tensor, aspect: Tensor, left: Tensor, top: Tensor, colour: Tensor) -> Tensor:
    """Paints a rectangle of a (B, C) colour into each (B, C, H, W) picture, wholly inside it.

    Its (B,) area is a part of the picture's, its (B,) aspect height / width in sides of the picture; left and
    top, (B,) in [0, 1], place it between its farthest positions.
    """

    def inside(side: int, length: Tensor, place: Tensor) -> Tensor:
        centres = (torch.arange(side, device=x.device) + 0.5) / side
        start = place * (1 - length)
        return (centres >= start[:, None]) & (centres < (start + length)[:, None])

    rows = inside(x.shape[2], (area * aspect).sqrt(), top)
    columns = inside(x.shape[3], (area / aspect).sqrt(), left)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], colour[:, :, None, None], x)


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] as JPEG of (B,) quality gives it back. kornia's rounding is soft, within 1/8."""
    return enhance.jpeg_codec_differentiable(x, quality)


def _where(chosen: Tensor, step: Callable[..., Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
    """``step(x, *parameters)`` for the frames chosen by (B,) bool, the others as they are."""
    if x.is_cuda:  # to count them, the host would have to wait for the GPU; it is faster to change all
        return torch.where(chosen[:, None, None, None], step(x, *parameters), x)
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return x
    return x.index_copy(0, rows, step(x[rows], *(parameter[rows] for parameter in parameters)))


def _around(centre: float, reach: float, uniform: Tensor) -> Tensor:
    return centre + reach * (2 * uniform - 1)


def _between(limits: Sequence[float], uniform: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * uniform


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser; int64 products wrap around as unsigned ones do."""
    x = (x ^ _shifted(x, 30)) * _MIX_1
    x = (x ^ _shifted(x, 27)) * _MIX_2
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
