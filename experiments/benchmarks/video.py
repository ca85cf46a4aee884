"""A video's way through ``aunet.predict``, by stage: ``video.py RUN FILE``, a contestant of ``predict.py``.

    decode   frames of the file, as RGB
    detect   faces found in them, and followed
    align    the faces' crops
    aus      the network's answer to the crops
    whole    all of them as ``aunet predict`` goes through them, decoding in a thread of its own

The stages are timed one after the other in one thread, so that they do not hide each other.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import Answer, Contestant, in_turn, say, serve, table

from aunet.files import replacing
from aunet.host import configure_host

EVERIES = 1, 5
"""Values of --detect-every."""

STAGES = "decode", "detect", "align", "aus"


def scene(folder: Path, frames: int) -> Path:
    """A video of two rendered people, forth and back until it is long enough; one that is there is kept."""
    file = folder / f"scene-{frames}.mp4"
    if not file.exists():
        sys.path.append(str(Path(__file__).parents[1]))  # scripts of experiments/
        from scenes import FPS, two_people
        from videos import write_video

        say(f"rendering {file}")
        forth = [one.pixels for one in two_people(0, min(frames, 24))]
        both = forth + forth[::-1]
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as draft:
            write_video(draft, (both[k % len(both)] for k in range(frames)), fps=FPS)
    return file


def measured(run: Path, file: Path, rounds: int, log: Path) -> Answer:
    """Seconds of a frame: how often faces are looked for -> stage -> of each round."""
    with Contestant("video.py", [run, file], log) as contestant:
        asked = {str(every): partial(contestant.ask, every=every) for every in EVERIES}
        for ask in asked.values():
            ask()
        return in_turn(asked, rounds, "video")


def as_text(found: Answer) -> str:
    """The table of what was measured."""
    rows = []
    for every, stages in found.items():
        summed = sum(median(stages[stage]) for stage in STAGES)
        for stage, seconds in stages.items():
            share = f"{median(seconds) / summed:.0%}" if stage in STAGES else ""
            figures = [1000 * value for value in (median(seconds), min(seconds), max(seconds))]
            rows.append((f"{every}, {stage}", *figures, share))
    return table(["faces every, stage", "ms a frame", "smallest", "largest", "share of the stages"], rows)


def main(run: Path, file: Path) -> None:
    """Answers with the seconds of a frame, in each stage."""
    configure_host()
    import aunet
    from aunet.predict import Options, faces
    from aunet.predict.detect import FaceDetector
    from aunet.predict.track import Tracker
    from aunet.predict.video import read_video

    predictor = aunet.load(run, "cpu")
    detector = FaceDetector(torch.device("cpu"))
    spent: Counter[str] = Counter()

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*arguments: Any) -> Any:
            begin = time.perf_counter()
            result = call(*arguments)
            spent[stage] += time.perf_counter() - begin
            return result

        return timing

    @torch.inference_mode()
    def classify(crops: torch.Tensor) -> None:
        if len(crops):
            predictor.network(crops).sigmoid()

    faces.crops = timed("align", faces.crops)  # called from within in_video

    def measure(every: int) -> Answer:
        spent.clear()
        finder = faces.FaceFinder(detector, predictor.image_size, len(predictor.aus), every)
        tracker, batches, frames = Tracker(), read_video(file), 0
        while batch := timed("decode", next)(batches, None):
            frames += len(batch)
            timed("aus", classify)(timed("detect", finder.in_video)(batch, tracker).crops)
        spent["detect"] -= spent["align"]
        stages = {stage: spent[stage] for stage in STAGES}
        begin = time.perf_counter()
        predictor.predict(file, Options(detect_every=every))
        stages["whole"] = time.perf_counter() - begin
        return {stage: seconds / frames for stage, seconds in stages.items()}

    serve(measure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
