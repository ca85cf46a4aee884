"""Measure the renderer: ``python -m aunet.data.rendered`` prints the processor time of a frame."""

import tempfile
import time
from pathlib import Path

from aunet.data.rendered.dataset import LANDMARK_NOISE
from aunet.data.rendered.head import load_head
from aunet.data.rendered.track import Landmarks, render_track, tracks

VIDEOS, FRAMES = 30, 8


def main() -> None:
    """Render a few videos in this process, all files included, and print milliseconds per frame and core."""
    start = time.perf_counter()
    load_head()
    loaded = time.perf_counter()
    everyone = tracks("train", VIDEOS)
    arguments: tuple[int, int, int, int, Landmarks, float] = (VIDEOS, FRAMES, 15, 0, "moving", LANDMARK_NOISE)
    with tempfile.TemporaryDirectory() as folder:
        render_track(Path(folder), everyone[0], *arguments)
        warm, compiled = time.process_time(), time.perf_counter()
        for track in everyone[1:]:
            render_track(Path(folder), track, *arguments)
        spent = time.process_time() - warm
    frames = FRAMES * (len(everyone) - 1)
    # A command of its own, whose result is this line.
    print(  # noqa: T201
        f"{1e3 * spent / frames:.1f} ms per frame and core ({frames} frames); "
        f"head loaded in {loaded - start:.1f} s, kernels compiled or loaded in {compiled - loaded:.1f} s"
    )


if __name__ == "__main__":
    main()
