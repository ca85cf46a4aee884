"""Memory of a long video's prediction: ``python experiments/predict_memory.py [--frames N]``.

A tiny video with a face that moves is predicted by an untrained network, by all the steps that a film goes
through. Resident memory is read while it goes on; what it grows by after the first 1,000 frames must not
depend on the video's length.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from skimage.data import astronaut
from videos import write_video

from aunet.config import compose
from aunet.files import write_json
from aunet.predict import Options, load
from aunet.predict.rows import row_type

SIDE, FIRST = 96, 1000


def main() -> None:
    """Makes the video, predicts it, prints and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--detect-every", type=int, default=25)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/predict_memory.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.frames, arguments.detect_every)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, found)
    print(json.dumps(found))


def measure(folder: Path, frames: int, every: int) -> dict[str, float]:
    """Predicts a video of so many frames.

    Returns:
        ``rows`` that were written; ``rss_mb`` after the first 1,000 frames, and the most afterwards; by how
        much it grew, ``growth_mb``; ``seconds``.
    """
    video = write_video(folder / "long.mp4", circle(frames), preset="ultrafast")
    predictor = load(write_run(folder / "run"), "cpu")
    rows = folder / "out.csv.partial" / "rows.bin"
    size = row_type(len(predictor.aus)).itemsize
    samples: list[tuple[int, float]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            done = rows.stat().st_size // size if rows.exists() else frames * bool(samples)
            samples.append((done, resident_mb()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        report = predictor.write(folder / "out.csv", video, Options(detect_every=every))
    finally:
        ended.set()
        watcher.join()
    early = [rss for done, rss in samples if done <= FIRST][-1]
    later = [rss for done, rss in samples if done > FIRST]
    return {
        "frames": frames,
        "rows": report.rows,
        "rss_mb": round(early, 1),
        "rss_after_mb": round(max(later), 1),
        "growth_mb": round(max(later) - early, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def circle(frames: int) -> Iterator[npt.NDArray[np.uint8]]:
    """A face that goes round in a circle: scikit-image's astronaut, which is in the public domain."""
    picture = astronaut()[40:200, 140:300]
    for k in range(frames):
        x, y = (32 + 24 * np.array([np.cos(k / 50), np.sin(k / 50)])).round().astype(int)
        yield picture[y : y + SIDE, x : x + SIDE]


def write_run(folder: Path) -> Path:
    """A run folder of a tiny network that has learned nothing."""
    folder.mkdir()
    cfg = compose(["backbone.filters=[4,4,4,4,4,4]", "weights=none"])
    module = instantiate(cfg.model, _convert_="all")
    OmegaConf.save(cfg, folder / "config.yaml")
    torch.save({"state_dict": module.state_dict()}, folder / "best.ckpt")
    (folder / "metrics.json").write_text("{}")
    return folder


def resident_mb() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
