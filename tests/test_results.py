"""Tables from run folders written by hand."""

import csv
import json

import numpy as np
import pytest
from rich.console import Console
from run_folders import write_run

from aunet.results import markdown, notes, read_rows, terminal, trivial_f1, write_table
from aunet.runs import RunError


@pytest.fixture
def sweep(tmp_path):
    """Three rows: "b" with three seeds, "a" with one, "c" pre-trained; two unfinished runs."""
    folder = tmp_path / "table1"
    for seed, f1 in ((10, (0.7, 0.5)), (0, (0.3, 0.1)), (2, (0.5, 0.3))):
        write_run(folder, "b", seed, f1=f1, training_seconds=10.0 + seed)
    write_run(folder, "a", f1=(0.9, 0.8))
    write_run(folder, "c", paper_f1=None, from_scratch=False, frozen=True)
    for unfinished in ("d/seed0", "a/seed1"):
        (folder / unfinished).mkdir(parents=True)
        (folder / unfinished / "last.ckpt").touch()
    return folder


def test_rows_come_in_the_given_order_then_by_name(sweep):
    assert [row["row"] for row in read_rows(sweep)] == ["a", "b", "c"]
    assert [row["row"] for row in read_rows(str(sweep), ["c", "missing", "b"])] == ["c", "b", "a"]


def test_seeds_are_averaged(sweep):
    a, b, c = read_rows(sweep)
    assert b["seeds"] == [0, 2, 10]
    assert b["f1"] == pytest.approx(0.4)
    assert b["f1_std"] == pytest.approx(np.std([0.2, 0.4, 0.6], ddof=1))
    assert b["f1_per_au"] == pytest.approx({"AU1": 0.5, "AU2": 0.3})
    assert b["training_seconds"] == pytest.approx(14.0)
    assert (a["seeds"], a["f1_std"]) == ([0], None)
    assert a["f1"] == pytest.approx(0.85)
    assert (a["paper_f1"], a["data"], a["from_scratch"]) == (0.4803, "affwild2", True)
    assert (c["paper_f1"], c["from_scratch"], c["frozen"]) == (None, False, True)


def test_unfinished_runs_make_no_row(sweep, tmp_path):
    assert "d" not in [row["row"] for row in read_rows(sweep, ["d"])]
    assert read_rows(tmp_path / "nowhere") == []
    assert trivial_f1(tmp_path / "nowhere") == {}


def test_rows_of_different_data_share_no_table(sweep):
    write_run(sweep, "e", data_fingerprint="train:0-val:2")
    with pytest.raises(RunError, match=r"rows \w and e were trained on different data"):
        read_rows(sweep)


def test_seeds_of_different_recipes_share_no_mean(sweep):
    write_run(sweep, "b", 3, recipe_digest="1")
    with pytest.raises(RunError, match=r"table1/b: seeds were trained with different configurations"):
        read_rows(sweep)


def test_damaged_run_is_named(sweep):
    (sweep / "b" / "seed2" / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"seed2/metrics\.json"):
        read_rows(sweep)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_damaged_predictions_are_named(content, sweep):
    (sweep / "a" / "seed0" / "predictions.npz").write_bytes(content)
    with pytest.raises(RunError, match=r"seed0/predictions\.npz.*remove the run's folder"):
        trivial_f1(sweep)


def test_trivial_predictors_equal_hand_computation(sweep):
    """Labels: AU1 is present in 2 of 4 frames; AU2 in 1 of 3, unknown in one. Rates 1/2 and 1/4."""
    # F1 = 2 tp / (2 tp + fp + fn). All present: AU1 tp 2, fp 2; AU2 tp 1, fp 2.
    # Random: AU1 tp 1, fp 1, fn 1; AU2 tp 1/4, fp 2/4, fn 3/4.
    assert trivial_f1(sweep) == pytest.approx(
        {
            "every AU present": (4 / 6 + 2 / 4) / 2,
            "random at the training rates": (2 / 4 + (1 / 2) / (1 / 2 + 2 / 4 + 3 / 4)) / 2,
        }
    )


def test_json_table_holds_all_rows(sweep):
    rows, trivial = read_rows(sweep), trivial_f1(sweep)
    files = write_table(sweep, rows, trivial)
    assert sorted(files) == [sweep / f"table.{kind}" for kind in ("csv", "json", "md")]
    table = json.loads((sweep / "table.json").read_text())
    assert table == {"rows": rows, "trivial": trivial}
    for row in table["rows"]:
        assert row.keys() >= {"row", "seeds", "f1", "f1_per_au", "paper_f1", "data", "from_scratch"}
        assert isinstance(row["seeds"], list)
        assert row["f1_per_au"].keys() == {"AU1", "AU2"}
    assert not list(sweep.glob(".table*"))


def test_csv_table_reads_back(sweep):
    rows = read_rows(sweep, ["b"])
    write_table(sweep, rows, {})
    with (sweep / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["row"] for row in read] == ["b", "a", "c"]
    for found, row in zip(read, rows, strict=True):
        assert float(found["f1"]) == row["f1"]
        assert found["f1_std"] == ("" if row["f1_std"] is None else repr(row["f1_std"]))
        assert [int(seed) for seed in found["seeds"].split()] == row["seeds"]
        assert {au: float(found[au]) for au in ("AU1", "AU2")} == row["f1_per_au"]
        assert found["paper_f1"] == ("" if row["paper_f1"] is None else repr(row["paper_f1"]))
        assert found["title"] == row["title"]
        assert found["from_scratch"] == str(row["from_scratch"])


def test_markdown_table_has_a_cell_for_every_column(sweep):
    rows, trivial = read_rows(sweep), trivial_f1(sweep)
    write_table(sweep, rows, trivial)
    text = (sweep / "table.md").read_text()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert len(lines) == 2 + len(rows)
    header, _, a, b, c = lines
    assert {len(line) for line in lines} == {len(header)}
    assert dict(zip(header, b, strict=True)) == {
        "row": "the b",
        "backbone starts": "from scratch",
        "F1": "0.4000 ± 0.2000",
        "paper": "0.4803",
        "seeds": "3",
        "epochs": "8",
        "params (M)": "1.50",
        "train (s)": "14",
        "AU1": "0.500",
        "AU2": "0.300",
    }
    assert a[header.index("F1")] == "0.8500"
    assert c[1] == "pre-trained, frozen"
    assert c[header.index("paper")] == "–"
    assert "- trivial predictor, every AU present: F1 0.5833" in text


def test_table_without_rows_can_be_written(tmp_path):
    write_table(tmp_path, [], {})
    assert json.loads((tmp_path / "table.json").read_text()) == {"rows": [], "trivial": {}}
    assert (tmp_path / "table.csv").read_text().strip() == "row"
    assert markdown([], {})
    assert terminal([]).row_count == 0


def test_notes_say_what_the_reader_must_know(sweep):
    found = "\n".join(notes(read_rows(sweep), {"every AU present": 0.25}))
    assert "every AU present: F1 0.2500" in found
    assert "validation frames of affwild2" in found
    assert "not measured here" in found
    assert "one seed" in found
    several = [row for row in read_rows(sweep) if row["row"] == "b"]
    assert "one seed" not in "\n".join(notes(several, {}))


def test_terminal_table_leaves_single_aus_out(sweep):
    console = Console(width=130)
    with console.capture() as captured:
        console.print(terminal(read_rows(sweep)))
    text = captured.get()
    assert "the b" in text
    assert "0.4000 ± 0.2000" in text
    assert "AU1" not in text
