"""Pictures as cameras and programs make them, and damaged ones."""

import contextlib

import numpy as np
import pytest
import simplejpeg
from media import FRAMES, MATRICES, read_all
from PIL import Image, features

from aunet.predict.frames import InputError
from aunet.predict.images import read_picture

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("cut", [1, 8])
def test_a_damaged_picture_is_no_video(tmp_path, cut):
    """Of a TIFF the directory lies at the end: Pillow knows it no longer, but FFmpeg finds something."""
    file = tmp_path / "a.tif"
    Image.fromarray(FRAMES[0]).save(file, compression="tiff_lzw")
    file.write_bytes(file.read_bytes()[:-cut])
    assert read_picture(file) is None
    frames, error = read_all(file)
    assert frames == []
    assert error == f"{file}: a picture that is damaged or that aunet does not read (tiff): save it as PNG"


ORIENTATIONS = dict(enumerate((0, 1, 3, 2, 6, 4, 7, 5), start=1))
"""Of EXIF, by number: its place among MATRICES."""


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("name", ["a.png", "a.avif"])
def test_pictures_that_ffmpeg_reads_are_set_upright(tmp_path, name, orientation):
    _, undone = list(MATRICES.values())[ORIENTATIONS[orientation]]
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    file, exif = tmp_path / name, Image.Exif()
    exif[0x0112] = orientation
    first, second = (
        Image.fromarray(np.ascontiguousarray(undone(pixels))) for pixels in (upright, upright ^ 1)
    )
    more = {"save_all": True, "append_images": [second]} if name == "a.png" else {"quality": 95}
    first.save(file, exif=exif, **more)
    if name == "a.png" and orientation in (2, 4, 5, 7):
        with pytest.raises(InputError, match="to be shown mirrored: save it as it looks"):
            read_picture(file)
        return
    assert read_picture(file) is None
    frames, error = read_all(file)
    assert error is None
    assert frames[0].pixels.shape == upright.shape
    assert abs(frames[0].pixels.astype(int) - upright).mean() < 10


def test_an_animated_webp_is_told(tmp_path):
    pictures = [Image.fromarray(np.full((48, 64, 3), grey, np.uint8)) for grey in (0, 255)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:])
    with pytest.raises(InputError, match="an animated WebP: convert it to GIF, PNG or a video"):
        read_picture(tmp_path / "a.webp")


def test_reading_a_picture_warns_of_nothing(tmp_path, recwarn):
    palette = Image.fromarray(FRAMES[0]).quantize(4)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 255, 255, 255]))
    assert read_picture(tmp_path / "a.png").shape == FRAMES[0].shape
    assert not recwarn.list


def test_pictures_of_all_kinds_are_the_same_picture(tmp_path):
    pixels = np.repeat(np.repeat(RNG.integers(0, 256, (6, 8, 3), np.uint8), 8, 0), 8, 1)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0)
    for name in ("a.png", "a.bmp", "a.tif"):
        image.save(tmp_path / name)
    image.save(tmp_path / "a.webp", lossless=True)
    image.convert("RGBA").save(tmp_path / "b.png")
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_allclose(read_picture(file), pixels, atol=0 if file.suffix != ".jpg" else 4)
    image.convert("L").save(tmp_path / "grey.png")
    grey = read_picture(tmp_path / "grey.png")
    assert grey.shape == (48, 64, 3)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_jpeg_is_decoded_as_in_training(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(
        simplejpeg.encode_jpeg(np.ascontiguousarray(FRAMES[0]), quality=80, colorsubsampling="420")
    )
    np.testing.assert_array_equal(read_picture(file), simplejpeg.decode_jpeg(file.read_bytes()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_set_upright(tmp_path, orientation):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :20] = 255
    undo = {2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: np.transpose(x, (1, 0, 2)),
            6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(np.transpose(x, (1, 0, 2)), 2),
            8: lambda x: np.rot90(x, -1)}  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(undo.get(orientation, np.array)(upright)))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert abs(read_picture(tmp_path / "a.jpg").astype(int) - upright).mean() < 3


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif", "webp", "bmp"])
def test_a_picture_that_is_damaged_anywhere_is_read_or_refused(kind, tmp_path):
    """Never anything but a picture, None for what may be a video, or an error in words."""
    pair = [Image.fromarray(frame) for frame in FRAMES[:2]]
    more = {"save_all": True, "append_images": pair[1:]} if kind == "gif" else {}
    pair[0].save(tmp_path / f"whole.{kind}", **more)
    whole, damaged = (tmp_path / f"whole.{kind}").read_bytes(), tmp_path / f"damaged.{kind}"
    rng = np.random.default_rng(3)
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            changed[rng.integers(min(len(whole), 300))] = rng.integers(256)
        damaged.write_bytes(changed[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.5 else changed)
        with contextlib.suppress(InputError):
            found = read_picture(damaged)
            assert found is None or found.shape[2:] == (3,)
