"""``aunet data``: render, check and pack data sets."""

import argparse
import json
import shlex
import sys
from pathlib import Path


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of ``aunet``."""
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
    check.set_defaults(call=_check, code=2)  # 1 says that there are only warnings
    pack = data.add_parser("pack", help="pack a data set into a store; an interrupted call goes on")
    _add_data_arguments(pack)
    pack.add_argument("--out", help="the store; default: DATA.packed")
    pack.add_argument("--decoded", action="store_true", help="keep raw pixels, for sets that fit the memory")
    pack.set_defaults(call=_pack)


def _add_data_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", metavar="DATA", help="folder of the data set, its manifest, or a store")
    command.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="such as data.read.crops=faces")
    command.add_argument(
        "--data", metavar="NAME", help="file in conf/data that reads it; default: recognised"
    )
    command.add_argument("--threads", type=int, help="that read and decode; default: one for each core")


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
