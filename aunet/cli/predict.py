"""``aunet predict``: the AUs of faces in pictures, videos and data sets."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aunet.postprocess import Postprocess


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of ``aunet``."""
    predict = commands.add_parser("predict", help="tell the AUs of faces in pictures and videos")
    predict.add_argument("run", help="folder of a finished run")
    predict.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="picture, video, folder of them, or data=... of a data set"
    )
    predict.add_argument(
        "-o", "--out", required=True, metavar="FILE", help="table to write: .csv, .parquet, .json, .jsonl"
    )
    predict.add_argument(
        "--crops", action="store_true", help="inputs are aligned crops: look for no faces in them"
    )
    predict.add_argument("--split", default="val", help="of a data set: train, val or test; %(default)s")
    predict.add_argument(
        "--fps",
        type=float,
        metavar="N",
        help="frames per second of a data set, which has no times",
    )
    predict.add_argument(
        "--detect-every", type=int, default=1, metavar="N", help="look for new faces in every Nth frame only"
    )
    predict.add_argument(
        "--min-face", type=float, default=40, metavar="PIXELS", help="of the smallest face; %(default)s"
    )
    predict.add_argument("--batch-size", type=int, default=64, metavar="N", help="crops at once; %(default)s")
    predict.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1; default: CUDA where there is one"
    )
    predict.add_argument(
        "--postprocess",
        metavar="NAME",
        help="file in conf/postprocess; tuned thresholds are those of the run's validation frames",
    )
    predict.add_argument(
        "--overlay", metavar="FILE", help="the one input with boxes, AUs and attention: .mp4, .png, .jpg"
    )
    predict.add_argument("--timeline", metavar="FILE", help="the one video's AUs over time: .svg")
    predict.set_defaults(call=_predict)


def _predict(options: argparse.Namespace) -> None:
    import logging

    from aunet.predict import Options, load

    logging.basicConfig(format="aunet: %(message)s")
    logging.getLogger("aunet").setLevel(logging.INFO)
    names = ("crops", "split", "detect_every", "min_face", "batch_size", "fps")
    chosen = Options(**{name: getattr(options, name) for name in names})
    predictor = load(options.run, options.device)
    postprocess = _postprocess(options)
    draw = None
    if options.overlay or options.timeline:
        from aunet.drawing import Drawing

        draw = Drawing(predictor, options.overlay, options.timeline, chosen, postprocess)
        draw.check(options.inputs)
    report = predictor.write(options.out, options.inputs, chosen, postprocess, draw)
    for problem in report.problems:
        print(f"aunet: {problem}", file=sys.stderr)
    if report.out:
        print(f"{report.out}: {_many(report.rows, 'row')} of {_many(report.inputs, 'input')}")
    if report.problems:
        sys.exit(1)


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _postprocess(options: argparse.Namespace) -> "Postprocess | None":
    """What the options ask for, its thresholds tuned."""
    if options.postprocess is None:
        return None
    from aunet.about import validation_rate
    from aunet.config import postprocess
    from aunet.predictions import tune

    chosen = postprocess(options.postprocess)
    if chosen.threshold != "tuned":
        return chosen
    return tune(chosen, Path(options.run), validation_rate(options.run))
