"""The ``aunet`` command: parses, calls, prints.

aunet train [OVERRIDE ...]            one run, or with --multirun a sweep (Hydra's syntax)
aunet data render OUT [--size NAME]   the rendered faces
aunet table RUNS                      the table of a sweep's finished runs
"""

import argparse
import shlex
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console command.

    Args:
        arguments: Without the program's name; those of the process if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:  # Hydra parses the rest
        from aunet.train import main as train

        sys.argv = ["aunet train", *given[1:]]
        train()
        return
    parser = argparse.ArgumentParser(prog="aunet", description="Facial Action Unit detection.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("train", help="train one row, or a sweep: aunet train experiment=table1/ours")
    data = commands.add_parser("data", help="data sets").add_subparsers(required=True, metavar="COMMAND")
    render = data.add_parser("render", help="render faces with known AUs, in Aff-Wild2's layout")
    render.add_argument("out", help="folder of the set; an interrupted call goes on")
    render.add_argument("--size", default="rendered", choices=["rendered", "rendered_large"])
    render.add_argument("--seed", type=int, help="another seed draws other people")
    render.add_argument("--workers", type=int, help="processes; default: one for each core")
    render.set_defaults(call=_render)
    table = commands.add_parser("table", help="print and write the table of a sweep")
    table.add_argument("runs", help="folder of the sweep, for instance runs/table1")
    table.set_defaults(call=_table)
    options = parser.parse_args(given)
    try:
        options.call(options)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"aunet: {error}")


def _render(options: argparse.Namespace) -> None:
    from aunet.train import prepare_data

    changes = {"seed": options.seed, "workers": options.workers}
    given = {key: value for key, value in changes.items() if value is not None}
    quoted = "'" + options.out.replace("'", "\\'") + "'"  # in Hydra's grammar, for any name of a folder
    overrides = [f"data={options.size}", f"data.root={quoted}"]
    out = prepare_data(overrides, **given)
    if options.seed is not None:
        overrides.append(f"data.prepare.seed={options.seed}")
    print(f"{out} is complete: train on it by {shlex.join(overrides)}")


def _table(options: argparse.Namespace) -> None:
    from aunet import results

    if not results.show_table(options.runs):
        sys.exit(f"aunet: {options.runs} holds no finished run (expected <row>/seed<k>/metrics.json)")


if __name__ == "__main__":
    main()
