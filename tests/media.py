"""Videos and pictures written and read, and run folders that predict, for the tests of ``aunet predict``."""

import importlib.util
import json
from pathlib import Path

import av
import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from aunet.predict import load
from aunet.predict.frames import Frame, InputError
from aunet.predict.predictor import Predictor
from aunet.predict.video import read_video

ROOT = Path(__file__).parent.parent
TINY = "backbone.filters=[4,4,4,4,4,4]"
FRAMES = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
H264 = {"codec": "libx264"}

MATRICES = {
    "as stored": ((1, 0, 0, 1), lambda pixels: pixels),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "half a turn": ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
    "a quarter": ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, 1)),
    "three quarters": ((0, -1, 1, 0), lambda pixels: np.rot90(pixels, -1)),
    "transposed": ((0, 1, 1, 0), lambda pixels: pixels.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1)),
}
"""What stands in a video's header, as (a, b, c, d) of x' = a x + c y, y' = b x + d y, and what undoes it."""


def script(name: str):
    """A script of experiments/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_video(file: Path, frames, times=None, codec: str = "ffv1", **options) -> Path:
    """Encodes RGB frames, without loss unless told otherwise, see experiments/videos.py."""
    return script("videos").write_video(file, frames, times, codec, **options)


def read_all(file: Path) -> tuple[list[Frame], str | None]:
    """All frames of a video, and the error that ended it."""
    frames = []
    try:
        for batch in read_video(file):
            assert len({frame.pixels.shape for frame in batch}) == 1
            frames += batch
    except InputError as error:
        return frames, str(error)
    return frames, None


def write_no_frames(file: Path) -> Path:
    """A video with header and end, and nothing between."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return file


def write_sound(file: Path, cover: np.ndarray | None = None) -> Path:
    """A second of silence, with a cover picture perhaps."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libmp3lame" if file.suffix == ".mp3" else "pcm_s16le", rate=44100)
        stream.layout = "mono"
        picture = None
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=25)
            picture.height, picture.width = cover.shape[:2]
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), format="s16", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(cover, format="rgb24")
            container.mux(picture.encode(frame.reformat(format="yuvj420p")))
            container.mux(picture.encode())
    return file


def write_run(folder: Path, cfg, seed: int = 0, **changes) -> Path:
    """A run folder with untrained weights whose answers differ from face to face.

    Args:
        folder: Made.
        cfg: The composed configuration.
        seed: Of the weights.
        **changes: Of what the checkpoint says of its pictures.
    """
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    module = instantiate(cfg.model, _convert_="all")
    with torch.no_grad():
        for parameter in module.network.classifier.parameters():
            parameter.mul_(20)
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)), folder / "config.yaml")
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    checkpoint["preprocessing"] |= changes
    torch.save(checkpoint, folder / "best.ckpt")
    (folder / "metrics.json").write_text(json.dumps({"aus": list(cfg.data.aus)}))
    return folder


def tiny_predictor(folder: Path, compose) -> Predictor:
    """A predictor whose network is tiny and untrained."""
    return load(write_run(folder, compose(TINY)), "cpu")
