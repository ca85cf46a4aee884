"""Augmentation: each step against another implementation; draws that depend on (seed, epoch, row) alone."""

import io
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image, ImageEnhance
from scipy import ndimage

from aunet.augmentation import Augmentation, _where, blur, erase, jpeg, uniforms, warp
from aunet.config import CONF

STRONG = Augmentation(
    flip=0.5,
    degrees=12,
    scale=0.1,
    shift=0.05,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    blur=0.5,
    erase=0.5,
    noise=0.5,
)
STRENGTHS = tuple(field.name for field in fields(Augmentation) if isinstance(field.default, float))


@pytest.fixture(scope="module")
def face():
    """(112, 112, 3) uint8: a photograph's face."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[:224:2, 168:392:2])


def random_frames(count, side=32, seed=0):
    """(count, 3, side, side) uint8 in channels_last, as the loader gives them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def as_batch(picture):
    """(H, W, 3) uint8 -> (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def as_picture(batch):
    """(1, 3, H, W) in [0, 1] -> (H, W, 3) float in [0, 255]."""
    return batch[0].permute(1, 2, 0).numpy() * 255


def turned(picture, flip=False, degrees=0.0, zoom=1.0, shift=(0.0, 0.0)):
    x = as_batch(picture)
    values = (torch.tensor([value]) for value in (flip, degrees, zoom, shift))
    return as_picture(warp(x, *values))


# Draws


def test_draws_are_splitmix64():
    def output(state):
        """Steele, Lea and Flood (2014), as published for java.util.SplittableRandom."""
        bits = 2**64 - 1
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & bits
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & bits
        return state ^ (state >> 31)

    golden = 0x9E3779B97F4A7C15
    assert output(golden) == 0xE220A8397B1DCDAF  # the known first output for seed 0
    rows, seed, epoch = (0, 1, 7, 2_600_000, 2**62), 3, 5
    drawn = uniforms(torch.tensor(rows), seed, epoch, 20)
    stream = output((output(seed + golden) + epoch + golden) % 2**64)
    for row, values in zip(rows, drawn.tolist(), strict=True):
        key = output((row + stream) % 2**64)
        expected = [(output((key + k * golden) % 2**64) >> 40) / 2**24 for k in range(1, 21)]
        assert values == expected


def test_draws_are_uniform_and_independent():
    drawn = uniforms(torch.arange(50_000), seed=0, epoch=0, draws=20).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    torch.testing.assert_close(drawn.mean(0), torch.full((20,), 0.5).double(), atol=0.007, rtol=0)
    torch.testing.assert_close(drawn.var(0), torch.full((20,), 1 / 12).double(), atol=0.002, rtol=0)
    others = [
        uniforms(torch.arange(50_000), 0, 1, 1),
        uniforms(torch.arange(50_000), 1, 0, 1),
        drawn[:, :1].roll(1),
    ]
    correlation = torch.corrcoef(torch.cat((drawn, *others), 1).T).fill_diagonal_(0)
    assert correlation.abs().max() < 0.025  # over five standard errors of 1 / sqrt(50,000)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(st.integers(0, 2**40), min_size=2, max_size=12, unique=True),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 1000),
    order=st.randoms(use_true_random=False),
)
def test_a_frame_does_not_depend_on_its_batch(rows, seed, epoch, order):
    index = torch.tensor(rows)
    frames = random_frames(len(rows))
    together = STRONG(frames, index, seed, epoch)
    some = list(range(len(rows)))
    order.shuffle(some)
    some = some[: len(rows) // 2 + 1]
    torch.testing.assert_close(
        STRONG(frames[some], index[some], seed, epoch), together[some], atol=2e-3, rtol=0
    )
    for i in some[:2]:
        alone = STRONG(frames[i : i + 1], index[i : i + 1], seed, epoch)
        torch.testing.assert_close(alone[0], together[i], atol=2e-3, rtol=0)


def test_draws_leave_torchs_generator_alone_and_do_not_use_it():
    frames, index = random_frames(8), torch.arange(8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = STRONG(frames, index, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(STRONG(frames, index, 0, 0), first)


def test_seed_epoch_and_row_change_every_frame():
    frames = random_frames(1).expand(16, -1, -1, -1)
    index = torch.arange(16)
    augmented = STRONG(frames, index, 0, 0)
    variants = [STRONG(frames, index, 1, 0), STRONG(frames, index, 0, 1), STRONG(frames, index + 16, 0, 0)]
    for other in (*variants, augmented.roll(1, 0)):
        assert ((augmented - other).abs().amax((1, 2, 3)) > 1).all()


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_step_draws_the_same_with_and_without_the_others(strength):
    """So that two settings can be compared frame by frame: what one leaves out does not move the rest."""
    value = {"degrees": 10.0}.get(strength, 0.25)
    frames, index = random_frames(32), torch.arange(32)
    alone = Augmentation(**{strength: value})(frames, index, 0, 0)
    other = "blur" if strength == "flip" else "flip"
    both = Augmentation(**{strength: value, other: 1e-7})(frames, index, 0, 0)
    torch.testing.assert_close(both, alone, atol=1e-3, rtol=0)


# Shape, type and range


@pytest.mark.parametrize(
    "augmentation", [Augmentation(), Augmentation(flip=0.5), STRONG], ids=["none", "flip", "strong"]
)
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_keeps_shape_and_memory_format(augmentation, memory_format):
    frames = random_frames(4, side=30).contiguous(memory_format=memory_format)
    kept = frames.clone()
    out = augmentation(frames, torch.arange(4), 0, 0)
    assert out.dtype == torch.float32
    assert out.shape == frames.shape
    assert out.stride() == frames.stride()
    assert not out.requires_grad
    assert torch.equal(frames, kept)


@settings(deadline=None, max_examples=40)
@given(
    strengths=st.fixed_dictionaries(
        {
            name: st.sampled_from([0.0, 0.3, 1.0])
            for name in STRENGTHS
            if name not in ("degrees", "scale", "shift")
        }
    ),
    degrees=st.floats(0, 180),
    scale=st.floats(0, 0.5),
    shift=st.floats(0, 0.5),
    sides=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    extreme=st.booleans(),
)
def test_values_stay_in_range(strengths, degrees, scale, shift, sides, extreme):
    augmentation = Augmentation(degrees=degrees, scale=scale, shift=shift, **strengths)
    frames = random_frames(6, side=40)[:, :, : sides[0], : sides[1]]
    if extreme:
        frames = (frames > 127).to(torch.uint8) * 255
    out = augmentation(frames, torch.arange(6), 0, 0)
    assert out.shape == frames.shape
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 255 + 1e-3


def test_without_strength_it_is_the_identity():
    frames = random_frames(16, side=112)
    out = Augmentation()(frames, torch.arange(16), 3, 4)
    torch.testing.assert_close(out, frames.float(), atol=1e-4, rtol=0)
    out = replace(STRONG, **dict.fromkeys(STRENGTHS, 0.0))(frames, torch.arange(16), 3, 4)
    torch.testing.assert_close(out, frames.float(), atol=1e-4, rtol=0)


def test_vanishing_geometry_and_colour_change_next_to_nothing():
    frames = random_frames(16, side=112)
    tiny = Augmentation(degrees=1e-5, scale=1e-7, shift=1e-8, brightness=1e-6, contrast=1e-6, saturation=1e-6)
    torch.testing.assert_close(tiny(frames, torch.arange(16), 0, 0), frames.float(), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip": 1.5}, r"augmentation.flip=1.5 must be in \[0, 1\]"),
        ({"degrees": -1}, r"augmentation.degrees=-1 must be in \[0, 180\]"),
        ({"scale": 0.6}, r"augmentation.scale=0.6 must be in \[0, 0.5\]"),
        ({"noise": float("nan")}, "augmentation.noise=nan"),
        ({"blur_sigma": [1.0, 0.5]}, r"augmentation.blur_sigma=\[1.0, 0.5\] must be two rising numbers"),
        ({"erase_area": [0.1]}, "augmentation.erase_area"),
        ({"noise_quality": (0, 50)}, "augmentation.noise_quality"),
    ],
)
def test_refuses_values_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**values)


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"frames must be \(B, 3, H, W\), got \(2, 32, 32, 3\)"):
        STRONG(random_frames(2).permute(0, 2, 3, 1), torch.arange(2), 0, 0)
    with pytest.raises(ValueError, match=r"index must be \(2,\), got \(3,\)"):
        STRONG(random_frames(2), torch.arange(3), 0, 0)


# Geometry


def test_flip_is_an_exact_mirror_at_the_given_rate():
    frames = random_frames(4000, side=16)
    out = Augmentation(flip=0.3)(frames, torch.arange(4000), 0, 0)
    mirrored = (out - frames.flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    kept = (out - frames).abs().amax((1, 2, 3)) < 1e-4
    assert (mirrored ^ kept).all()
    assert mirrored.double().mean() == pytest.approx(0.3, abs=0.03)


def test_flip_goes_before_the_affine_map(face):
    plain, mirror = (
        turned(face, degrees=10.0, shift=(0.05, 0.0)),
        turned(face, True, degrees=10.0, shift=(0.05, 0.0)),
    )
    np.testing.assert_allclose(
        mirror, turned(face[:, ::-1].copy(), degrees=10.0, shift=(0.05, 0.0)), atol=0.1
    )
    np.testing.assert_allclose(turned(face, True), face[:, ::-1], atol=0.1)
    assert np.abs(plain - mirror).mean() > 5


def test_rotation_is_counter_clockwise_as_pils(face):
    expected = np.asarray(Image.fromarray(face).rotate(15, Image.Resampling.BILINEAR), np.float64)
    inner = np.s_[25:-25, 25:-25]
    difference = np.abs(turned(face, degrees=15.0) - expected)[inner]
    assert difference.mean() < 0.7  # PIL rounds to whole values
    assert difference.max() < 4


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [np.s_[:, :], np.s_[10:90, 5:]], ids=["square", "wide"])
def test_affine_map_is_scipys(face, flip, crop):
    picture = np.ascontiguousarray(face[crop])
    height, width = picture.shape[:2]
    degrees, zoom, (dx, dy) = -11.0, 1.13, (0.04, -0.03)
    # Forward in (row, column): mirror, turn and magnify about the centre, shift; scipy wants the inverse.
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    forward = zoom * np.array([[c, -s], [s, c]]) @ np.diag([1, -1 if flip else 1])
    centre = np.array([height - 1, width - 1]) / 2
    inverse = np.linalg.inv(forward)
    offset = centre - inverse @ (centre + np.array([dy * height, dx * width]))
    expected = np.stack(
        [
            ndimage.affine_transform(picture[..., k].astype(float), inverse, offset, order=1, mode="mirror")
            for k in range(3)
        ],
        -1,
    )
    np.testing.assert_allclose(turned(picture, flip, degrees, zoom, (dx, dy)), expected, atol=0.2)


def test_geometry_spans_its_ranges():
    """A bright dot moves as far as rotation, magnification and shift allow, and no farther."""
    frames = torch.zeros(2000, 3, 65, 65, dtype=torch.uint8)
    frames[:, :, 32, 48:51] = 255  # centred 17 right of the centre
    axis = torch.arange(65.0) - 32

    def moved(**strengths):
        weight = Augmentation(**strengths)(frames, torch.arange(2000), 0, 0)[:, 0]
        weight = weight / weight.sum((1, 2), keepdim=True)
        return (weight.sum(1) * axis).sum(1), (weight.sum(2) * axis).sum(1)

    x, y = moved(degrees=20.0)
    angle = torch.rad2deg(torch.atan2(-y, x))
    assert angle.abs().max() < 20.5
    assert (angle.min() < -19.5) & (angle.max() > 19.5)
    x, y = moved(scale=0.2)
    assert 17 * 0.79 < x.min() < 17 * 0.82
    assert 17 * 1.18 < x.max() < 17 * 1.21
    assert y.abs().max() < 0.1
    x, y = moved(shift=0.1)
    for offset in (x - 17, y):
        assert -6.6 < offset.min() < -6.3
        assert 6.3 < offset.max() < 6.6


# Colour


@pytest.mark.parametrize(
    ("strength", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_colour_is_pils(face, strength, enhancer):
    frames = torch.from_numpy(face).permute(2, 0, 1)[None].expand(64, -1, -1, -1)
    out = Augmentation(**{strength: 0.5})(frames, torch.arange(64), 0, 0)
    factors = []
    for frame in out:
        picture = frame.permute(1, 2, 0).numpy()
        candidates = np.linspace(0.5, 1.5, 101)
        image = enhancer(Image.fromarray(face))
        errors = [
            np.abs(np.asarray(image.enhance(f)).astype(float) - picture).mean() for f in candidates[::10]
        ]
        near = candidates[max(0, 10 * int(np.argmin(errors)) - 10) : 10 * int(np.argmin(errors)) + 11]
        fine = [np.abs(np.asarray(image.enhance(f)).astype(float) - picture).mean() for f in near]
        assert min(fine) < 1.2  # PIL rounds values down and the mean to a whole number
        factors.append(near[int(np.argmin(fine))])
    assert min(factors) < 0.6
    assert max(factors) > 1.4


def test_colours_come_one_after_the_other(face):
    frames = torch.from_numpy(face).permute(2, 0, 1)[None]
    out = Augmentation(brightness=0.4, contrast=0.4, saturation=0.4)(frames, torch.tensor([5]), 0, 0)
    names = ("brightness", "contrast", "saturation")
    drawn = dict(zip(names, uniforms(torch.tensor([5]), 0, 0, 8)[0, 5:].tolist(), strict=True))
    image = Image.fromarray(face)
    for name, step in zip(
        names, (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), strict=True
    ):
        image = step(image).enhance(1 + 0.4 * (2 * drawn[name] - 1))
    assert np.abs(np.asarray(image).astype(float) - as_picture(out / 255)).max() < 4


# Blur, erasing, JPEG


def test_blur_is_scipys(face):
    sigma = torch.tensor([0.4, 1.0, 1.7])
    out = blur(as_batch(face).expand(3, -1, -1, -1), sigma, radius=6)
    for blurred, width in zip(out, sigma.tolist(), strict=True):
        expected = ndimage.gaussian_filter(face.astype(float), (width, width, 0), mode="mirror", radius=6)
        np.testing.assert_allclose(as_picture(blurred[None]), expected, atol=0.01)


@settings(deadline=None, max_examples=60)
@given(
    area=st.floats(0.01, 0.5),
    aspect=st.floats(0.5, 2),
    left=st.floats(0, 1),
    top=st.floats(0, 1),
)
def test_erases_a_rectangle_of_that_size_inside_the_picture(area, aspect, left, top):
    x = torch.zeros(1, 3, 100, 100)
    colour = torch.tensor([[0.2, 0.5, 0.9]])
    out = erase(x, *(torch.tensor([value]) for value in (area, aspect, left, top)), colour)
    painted = (out[0] == colour[0, :, None, None]).all(0)
    assert torch.equal(painted, out[0].any(0))
    rows, columns = painted.any(1).nonzero()[:, 0], painted.any(0).nonzero()[:, 0]
    height, width = 100 * (area * aspect) ** 0.5, 100 * (area / aspect) ** 0.5
    assert len(rows) * len(columns) == painted.sum()
    assert len(rows) == pytest.approx(height, abs=1.01)
    assert len(columns) == pytest.approx(width, abs=1.01)
    assert int(rows[0]) == pytest.approx(top * (100 - height), abs=1.01)
    assert int(columns[0]) == pytest.approx(left * (100 - width), abs=1.01)


@pytest.mark.parametrize("quality", [20, 50, 85])
def test_jpeg_is_pils(face, quality):
    stream = io.BytesIO()
    Image.fromarray(face).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(Image.open(stream)).astype(float)
    out = as_picture(jpeg(as_batch(face), torch.tensor([float(quality)])))
    rms = [np.sqrt(np.mean(difference**2)) for difference in (out - expected, out - face, expected - face)]
    assert rms[0] < 0.45 * rms[2]  # most of the noise is the same, pixel by pixel
    assert rms[1] == pytest.approx(rms[2], rel=0.15)


def test_jpeg_shows_its_blocks(face):
    """Steps between neighbours grow on the borders of 8x8 blocks, and only there."""
    rough = as_picture(jpeg(as_batch(face), torch.tensor([8.0])))
    step = np.abs(np.diff(rough, axis=1)).mean((0, 2))
    on_borders = step[7::8].mean()
    assert on_borders > 1.4 * np.delete(step, np.s_[7::8]).mean()
    plain = np.abs(np.diff(face.astype(float), axis=1)).mean((0, 2))
    assert plain[7::8].mean() < 1.1 * np.delete(plain, np.s_[7::8]).mean()


def test_steps_happen_at_their_rates_and_independently():
    frames = random_frames(1500, side=16)
    changed = []
    for step in ("flip", "blur", "erase", "noise"):
        out = Augmentation(**{step: 0.2})(frames, torch.arange(1500), 0, 0)
        changed.append(((out - frames).abs().amax((1, 2, 3)) > 1e-3).double())
    rates = torch.stack(changed)
    torch.testing.assert_close(rates.mean(1), torch.full((4,), 0.2).double(), atol=0.035, rtol=0)
    assert torch.corrcoef(rates).fill_diagonal_(0).abs().max() < 0.12


def test_blur_comes_first_and_jpeg_last(face):
    frames = torch.from_numpy(face).permute(2, 0, 1)[None].expand(4, -1, -1, -1)
    augmentation = Augmentation(blur=1.0, blur_sigma=(0.5, 1.5), erase=1.0, noise=1.0, noise_quality=(20, 60))
    out = augmentation(frames, torch.arange(4), 0, 0) / 255
    u = uniforms(torch.arange(4), 0, 0, 20).T
    x = blur(frames.float() / 255, 0.5 + u[9], radius=5)
    x = erase(x, 0.02 + 0.08 * u[11], 2 ** (2 * u[12] - 1), u[13], u[14], u[15:18].T)
    torch.testing.assert_close(out, jpeg(x, 20 + 40 * u[19]), atol=1e-4, rtol=0)


def test_on_a_gpu_chosen_frames_are_the_same():
    """There, all are changed and the chosen ones kept."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    x, chosen, by = torch.rand(6, 3, 4, 4), torch.tensor([1, 0, 0, 1, 1, 0]).bool(), torch.arange(6.0)
    calls = []

    def step(part, values):
        calls.append(len(part))
        return part + values[:, None, None, None]

    expected = x + (by * chosen)[:, None, None, None]
    for batch in (x, x.as_subclass(OnGpu)):
        changed = _where(chosen, step, batch, by).as_subclass(torch.Tensor)
        torch.testing.assert_close(changed, expected)
    assert calls == [3, 6]


# Settings


def test_paper_has_no_augmentation():
    assert OmegaConf.load(CONF / "augmentation" / "none.yaml") == {"augmentation": None}


@pytest.mark.parametrize("name", ["standard", "strong"])
def test_settings_keep_the_face_recognisable(face, name):
    augmentation = instantiate(OmegaConf.load(CONF / "augmentation" / f"{name}.yaml"), _convert_="all")
    assert isinstance(augmentation, Augmentation)
    out = augmentation(
        torch.from_numpy(face).permute(2, 0, 1)[None].expand(200, -1, -1, -1), torch.arange(200), 0, 0
    )
    assert (out.flatten(1).std(1) > 10).all()
    assert (out.mean((1, 2, 3)) > 30).all()
    assert (out.mean((1, 2, 3)) < 225).all()
    assert ((out >= 254.5).all(1).double().mean((1, 2)) < 0.5).all()  # not burnt out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_pictures():
    frames, index = random_frames(64, side=112), torch.arange(64)
    expected = STRONG(frames, index, 0, 0)
    out = STRONG(frames.cuda(), index.cuda(), 0, 0)
    assert out.is_cuda
    assert out.is_contiguous(memory_format=torch.channels_last)
    difference = (out.cpu() - expected).abs()
    assert difference.mean() < 0.01
    assert (difference > 1).double().mean() < 1e-3  # JPEG's rounding
