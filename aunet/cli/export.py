"""``aunet export`` and ``aunet card``: what a finished run hands over to others."""

import argparse
import sys
from pathlib import Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of ``aunet``."""
    export = commands.add_parser("export", help="write a run's network into one file that needs no aunet")
    export.add_argument("run", help="the run's folder")
    export.add_argument("-o", "--out", metavar="FILE", help="default: model.onnx or so in the run's folder")
    export.add_argument("--format", choices=["onnx", "torch"], default="onnx", help="torch: of torch.export")
    export.add_argument("--int8", action="store_true", help="compute in 8-bit integers; needs the data")
    export.add_argument("--data", metavar="DIR", help="where the run's data lie now")
    export.set_defaults(call=_export)
    card = commands.add_parser("card", help="write the model card of a run or a row, in Markdown")
    card.add_argument("run", help="folder of a run, or of a row: all its finished seeds")
    card.add_argument("-o", "--out", metavar="FILE", help="default: print it")
    card.set_defaults(call=_card)


def _export(options: argparse.Namespace) -> None:
    from aunet.export import export

    file = export(options.run, options.out, options.format, options.int8, options.data)
    print(f"written: {file}, {file}.md", file=sys.stderr)


def _card(options: argparse.Namespace) -> None:
    from aunet.card import finished_runs, model_card
    from aunet.files import check_place, replacing

    if options.out is not None:
        check_place(Path(options.out))
    text = model_card(finished_runs(options.run))
    if options.out is None:
        print(text, end="")
        return
    with replacing(Path(options.out)) as draft:
        draft.write_text(text, "utf-8")
    print(f"written: {options.out}", file=sys.stderr)
