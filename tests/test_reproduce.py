"""The script behind ``make table1``, on tiny data: rows, table, a second call, failures."""

import json
import logging
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from layouts import write_affwild2

from aunet.config import CONF
from aunet.results import TABLE1

SCRIPT = Path(__file__).parent.parent / "experiments" / "reproduce_table1.py"

ON_DISK = {path.stem for path in CONF.glob("experiment/table1/*.yaml")}
ROWS = [*TABLE1, *sorted(ON_DISK - set(TABLE1))]


def command(root: Path, *overrides: str) -> list[str]:
    return [
        sys.executable, str(SCRIPT), "data=affwild2", f"data.root={root}", "weights=none", "epochs=1",
        "batch_size=4", "logger=none", *overrides,
    ]  # fmt: skip


def reproduce(root: Path, cwd: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, *overrides), cwd=cwd, capture_output=True, text=True, timeout=280, check=False
    )


def finished(cwd: Path) -> dict[str, int]:
    """Rows that have finished, and when."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in cwd.glob("runs/table1/*/seed0/metrics.json")}


@pytest.fixture
def in_this_process(monkeypatch, capsys):
    """The same without another start of Python: the script's exit status and what it prints."""

    def run(root: Path, cwd: Path, *overrides: str) -> tuple[str | int | None, str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", command(root, *overrides)[1:])
        status: str | int | None = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            status = stop.code
        printed = capsys.readouterr()
        # Python prints a sentence that it is ended with.
        return status, printed.out + printed.err + (status if isinstance(status, str) else "")

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:] = handlers  # Hydra's print to what was captured
    root.setLevel(level)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Of each split two videos, and no more frames than large networks need to take steps."""
    return write_affwild2(tmp_path_factory.mktemp("data"), videos=(2, 2), frames=(4, 2))


@pytest.fixture(scope="module")
def first(data, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("table1")
    return cwd, reproduce(data, cwd)


def test_every_row_is_in_the_table_in_the_papers_order(first):
    cwd, done = first
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads((cwd / "runs" / "table1" / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == ROWS
    assert table["data"] == "affwild2"
    for row in table["rows"]:
        assert (row["seeds"], row["unfinished"]) == ([0], {})
        assert row["starts"].startswith(
            "pre-trained" if row["name"] == "efficientnet_lite0" else "from scratch"
        )
        assert row["f1"]["value"] == pytest.approx(sum(f1["value"] for f1 in row["f1_per_au"].values()) / 12)
        assert (row["difference"] is None) == (row["name"] == "ours")
    assert {row["name"]: row["paper_f1"] for row in table["rows"]}["ours"] == 0.4803
    assert "trivial predictor, every AU present" in done.stdout
    assert "0.4803" in (cwd / "runs" / "table1" / "table.md").read_text()


def test_second_call_trains_nothing_and_prints_the_same_table(first, data, in_this_process):
    cwd, done = first
    before = finished(cwd)
    status, said = in_this_process(data, cwd)
    assert status == 0
    assert finished(cwd) == before
    table = done.stdout[done.stdout.index("\nResult") :]
    assert table in said
    assert "epoch 1/1" not in said


def test_every_failing_row_is_named_and_the_others_are_in_the_table(first, data):
    """One configuration that the finished rows do not have: all are refused, and their table is as it was."""
    cwd, done = first
    before = finished(cwd)
    refused = reproduce(data, cwd, "lr=1e30")
    assert finished(cwd) == before
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert f"{len(ROWS)} of {len(ROWS)} runs did not succeed:" in refused.stdout
    for row in ROWS:
        place = f"runs/table1/{row}/seed0"
        said = f"{row} seed 0: {place} holds a run with another configuration: lr: 0.001 -> 1e+30"
        assert said in refused.stdout
    assert done.stdout[done.stdout.index("\nResult") :] in refused.stdout


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data=afwild2", "Could not find 'data/afwild2'"),
        ("lr=[", "aunet: lr=[: "),
        ("data.root=/nowhere", "data.root=/nowhere is not a folder"),
    ],
)
def test_misspelt_options_end_in_a_sentence(override, said, tmp_path, affwild2, in_this_process):
    status, printed = in_this_process(affwild2, tmp_path, "hydra/launcher=basic", override)
    assert status not in (0, None)
    assert "Traceback" not in printed
    assert said in printed


def test_a_misspelt_option_of_the_command_ends_in_a_sentence(tmp_path, affwild2):
    done = reproduce(affwild2, tmp_path, "hydra/launcher=basic", "nosuchkey=1")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert "nosuchkey" in done.stdout + done.stderr
