"""The ``aunet`` command: parses, calls, prints.

aunet train [OVERRIDE ...]            one run, or with --multirun a sweep (Hydra's syntax)
aunet data render OUT [--size NAME]   the rendered faces
aunet data check DATA [OVERRIDE ...]  everything that is wrong with a data set or a store
aunet data pack DATA [OVERRIDE ...]   a packed store of a data set
aunet table RUNS ...                  the table of one sweep or several
aunet status RUNS ...                 how far each run of a sweep is, live
aunet export RUN                      the network in one file: ONNX or torch.export, and its model card
aunet card RUN                        the model card of a run, or of a row with all its seeds
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console command.

    Args:
        arguments: Without the program's name; those of the process if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:  # Hydra parses the rest
        from aunet.command import main as train

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
    check = data.add_parser("check", help="report what a data set or a store holds and what is wrong with it")
    _add_data_arguments(check)
    check.add_argument("--json", metavar="FILE", help="write the whole report there; - for the output")
    check.add_argument("--no-pixels", action="store_true", help="look at annotations and names only")
    check.set_defaults(call=_check)
    pack = data.add_parser("pack", help="pack a data set into a store; an interrupted call goes on")
    _add_data_arguments(pack)
    pack.add_argument("--out", help="the store; default: DATA.packed")
    pack.add_argument("--decoded", action="store_true", help="keep raw pixels, for sets that fit the memory")
    pack.set_defaults(call=_pack)
    table = commands.add_parser("table", help="print and write the table of one sweep or several")
    table.add_argument("runs", nargs="+", help="folder of a sweep, for instance runs/table1")
    table.add_argument("--reference", metavar="ROW", help="compare all with it; default: as rows say, ours")
    table.add_argument(
        "--format",
        choices=["terminal", "markdown", "csv", "json", "latex"],
        default="terminal",
        help="of the output",
    )
    table.add_argument("--out", metavar="DIR", help="write all formats there; default: the sweep's folder")
    table.set_defaults(call=_table)
    status = commands.add_parser("status", help="how far each run of a sweep is: rows x seeds, live")
    status.add_argument("runs", nargs="+", help="folder of a sweep, or of several")
    status.set_defaults(call=_status)
    _add_export(commands)
    options, rest = parser.parse_known_args(given)
    # argparse takes positional arguments in one piece only; overrides may stand between options.
    if any(word.startswith("-") or "=" not in word for word in rest) or (rest and "overrides" not in options):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    try:
        options.call(options)
    except (ValueError, OSError, RuntimeError) as error:
        if options.call is not _check:
            sys.exit(f"aunet: {error}")
        print(f"aunet: {error}", file=sys.stderr)
        sys.exit(2)  # 1, as of other commands, would say that there are only warnings


def _add_data_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="DATA", help="folder of the data set, its manifest, or a store")
    command.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="such as data.read.crops=faces")
    command.add_argument(
        "--data", metavar="NAME", help="file in conf/data that reads it; default: recognised"
    )
    command.add_argument("--threads", type=int, help="that read and decode; default: one for each core")


def _add_export(commands: Any) -> None:
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


def _check(options: argparse.Namespace) -> None:
    from aunet.config import data_module
    from aunet.data.check import check_data

    module = data_module(options.path, options.data, options.overrides)
    report = check_data(
        module.root,
        lambda faults: module.read(root=module.root, aus=module.aus, faults=faults),
        module.image_size,
        module.resize,
        not options.no_pixels,
        options.threads,
    )
    if options.json:
        text = json.dumps(report.as_json(), indent=1)
        if options.json == "-":
            print(text)
            sys.exit(report.exit_code)
        Path(options.json).write_text(text + "\n")
    print(report.as_text())
    sys.exit(report.exit_code)


def _pack(options: argparse.Namespace) -> None:
    from aunet.config import data_module
    from aunet.data.faults import DataError, Faults
    from aunet.data.journal import Packing
    from aunet.data.pack import pack
    from aunet.data.store import is_store, recipe

    if is_store(Path(options.path)):
        raise DataError(f"{options.path} is a store: give the data set that it was packed from")
    module = data_module(options.path, options.data, options.overrides)
    tables = module.read_tables(Faults())
    packing = Packing(
        module.root, recipe(module.read), module.image_size, module.resize, options.decoded, module.on_bad
    )
    out = Path(options.out or f"{Path(options.path).resolve()}.packed")
    packed = pack(tables, packing, out, options.threads)
    print(f"{out} {'is complete' if packed else 'was complete before'}: train on it by data.root={out}")


def _render(options: argparse.Namespace) -> None:
    from aunet.config import prepare_data, quoted

    changes = {"seed": options.seed, "workers": options.workers}
    given = {key: value for key, value in changes.items() if value is not None}
    overrides = [f"data={options.size}", f"data.root={quoted(options.out)}"]
    out = prepare_data(overrides, **given)
    if options.seed is not None:
        overrides.append(f"data.prepare.seed={options.seed}")
    print(f"{out} is complete: train on it by {shlex.join(overrides)}")


def _table(options: argparse.Namespace) -> None:
    from aunet.cells import read_cells
    from aunet.results import read_table
    from aunet.tables import TEXT, print_table, write_table

    for folder in options.runs:
        if not read_cells(Path(folder)):
            sys.exit(f"aunet: {folder} holds no sweep (expected <row>/seed<k>/metrics.json)")
    table = read_table(options.runs, options.reference)
    if options.format == "terminal":
        print_table(table)
    else:
        print(TEXT[options.format](table), end="")
    # Of several sweeps no folder is the table's by itself.
    out = options.out or (options.runs[0] if len(options.runs) == 1 else None)
    if out:
        print(f"written: {', '.join(map(str, write_table(out, table)))}", file=sys.stderr)


def _status(options: argparse.Namespace) -> None:
    from aunet.status import find_sweeps, watch

    watch(find_sweeps(options.runs))


def _export(options: argparse.Namespace) -> None:
    from aunet.export import export

    file = export(options.run, options.out, options.format, options.int8, options.data)
    print(f"written: {file}, {file.with_suffix('.md')}", file=sys.stderr)


def _card(options: argparse.Namespace) -> None:
    from aunet.card import finished_runs, model_card
    from aunet.runs import replacing

    text = model_card(finished_runs(options.run))
    if options.out is None:
        print(text, end="")
        return
    with replacing(Path(options.out)) as draft:
        draft.write_text(text)
    print(f"written: {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
