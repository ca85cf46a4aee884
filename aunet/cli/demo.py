"""``aunet demo``: a page on this machine that shows AUs and attention of what is dropped on it."""

import argparse


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of ``aunet``."""
    demo = commands.add_parser("demo", help="a page on this machine: drop a picture or a video, see its AUs")
    demo.add_argument("run", help="folder of a finished run")
    demo.add_argument("--port", type=int, default=8321, help="0 for any that is free; %(default)s")
    demo.add_argument("--max-mb", type=float, default=500, metavar="MB", help="of an upload; %(default)s")
    demo.add_argument("--crops", action="store_true", help="what is dropped are aligned crops")
    demo.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; default: CUDA where there is one")
    demo.set_defaults(call=_demo)


def _demo(options: argparse.Namespace) -> None:
    import logging
    from pathlib import Path

    from aunet.about import seen_rendered_only
    from aunet.demo import serve
    from aunet.predict import Options, load
    from aunet.runs import read_metrics
    from aunet.trained import read_config

    if not 0 < options.max_mb < float("inf"):
        raise ValueError(f"--max-mb {options.max_mb:g} must be above 0, and no more than there is")
    logging.basicConfig(format="aunet: %(message)s")
    logging.getLogger("aunet").setLevel(logging.INFO)
    predictor = load(options.run, options.device)
    metrics = read_metrics(Path(options.run)) or {}
    data = read_config(options.run)["data"]["name"]
    rendered = seen_rendered_only(options.run)
    note = "It has seen rendered faces only." if rendered else f"Trained on {data}."
    about = {"title": f"{metrics.get('title', options.run)}, seed {metrics.get('seed', '?')}", "note": note}
    serve(predictor, Options(crops=options.crops), about, options.port, round(options.max_mb * 1e6))
