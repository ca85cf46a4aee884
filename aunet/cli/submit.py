"""``aunet submit``: a submission to the ABAW competitions, written or checked."""

import argparse
import sys


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of ``aunet``."""
    submit = commands.add_parser("submit", help="write a submission to the ABAW competitions, or check one")
    submit.add_argument("path", metavar="RUN", help="the run's folder; with --check a submission")
    submit.add_argument(
        "overrides", nargs="*", metavar="OVERRIDE",
        help="of the post-processing: --postprocess smoothed postprocess.smoothing_seconds=0.5",
    )  # fmt: skip
    submit.add_argument(
        "--check", action="store_true", help="look for faults in any submission; exit code 2 if there are any"
    )
    submit.add_argument("--all", action="store_true", help="with --check: not the first 50 places of a fault")
    submit.add_argument("--data", metavar="DIR", help="folder of the crops; lists are looked for there, too")
    submit.add_argument("--list", metavar="FILE", help="the organisers' list of test videos")
    submit.add_argument("--frames", metavar="FILE", help="the organisers' list of expected frames")
    submit.add_argument("--sample", metavar="FILE", help="the organisers' sample (abaw5), instead of both")
    submit.add_argument("--format", choices=["abaw3", "abaw5"], help="default: abaw3; abaw5 with --sample")
    submit.add_argument("--postprocess", metavar="NAME", default="none", help="file in conf/postprocess")
    submit.add_argument("--fps", type=float, help="frames per second of the videos; default: 30")
    submit.add_argument("--crops", metavar="FOLDER", help="of the crops, within DIR; default: found")
    submit.add_argument("--on-bad", choices=["error", "skip"], default="error", help="crops that are damaged")
    submit.add_argument("-o", "--out", metavar="OUT", help="folder (abaw3) or file (abaw5) to write")
    submit.set_defaults(call=_submit, refuse=submit.error)


def _refuse_strange(options: argparse.Namespace) -> None:
    """Options that would be passed over, as if what they ask for had been done."""
    if not options.check:
        if not (options.data and options.out):
            options.refuse("give --data DIR and -o OUT, or --check")
        if options.all:
            options.refuse("--all is for --check")
        return
    if options.overrides:
        options.refuse(f"--check takes one submission at a time: leave out {' '.join(options.overrides)}")
    unset = {"out": None, "postprocess": "none", "fps": None, "crops": None, "on_bad": "error"}
    for name, value in unset.items():
        if getattr(options, name) != value:
            options.refuse(f"--{name.replace('_', '-')} is for writing a submission, not for --check")


def _submit(options: argparse.Namespace) -> None:
    from aunet.data.testset import read_expected

    _refuse_strange(options)
    expected = read_expected(options.list, options.frames, options.sample, options.data)
    if options.check:
        from aunet.submit.check import check

        faults = check(options.path, expected, options.format)
        lines = faults.lines(sys.maxsize if options.all else 50, " (--all names them)")
        print("\n".join([options.path, *(f"  {line}" for line in lines or ["clean"])]))
        sys.exit(2 if faults.places else 0)
    from aunet.config import postprocess
    from aunet.data.rendered.facts import frame_rate
    from aunet.submit.files import Format
    from aunet.submit.run import submit

    chosen = postprocess(options.postprocess, options.overrides)
    fps = (frame_rate(options.data) or 30.0) if options.fps is None else options.fps
    form: Format = options.format or ("abaw5" if options.sample else "abaw3")
    written = submit(
        options.path, expected, options.data, options.out, form, chosen, fps, options.crops, options.on_bad
    )
    asked = " ".join([f"postprocess={options.postprocess}", *options.overrides])
    print(
        f"{written.path}: {written.videos} videos, {written.frames} frames, {written.predicted} of them with "
        f"a crop; {fps:g} frames per second, {asked}"
    )
