"""The ``aunet`` command: what it calls, what it prints, and errors in one line."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf
from run_folders import write_run, write_unfinished

from aunet.cli import main
from aunet.config import CONF


@pytest.fixture
def rendered(monkeypatch):
    """What would have been rendered."""
    calls = []
    monkeypatch.setattr("aunet.data.rendered.render", lambda **arguments: calls.append(arguments))
    return calls


def stopped(*arguments: object) -> str:
    """The message with which the command ends."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, str)
    assert caught.value.code.startswith("aunet: ")
    return caught.value.code


def said(capsys):
    """The overrides with which to train on the set, as a shell would hand them over."""
    return shlex.split(capsys.readouterr().out.partition("train on it by ")[2])


def test_render_makes_the_configured_set(rendered, tmp_path, capsys):
    main(["data", "render", str(tmp_path / "faces")])
    (call,) = rendered
    assert call["out"] == str(tmp_path / "faces")
    configured = OmegaConf.load(CONF / "data" / "rendered.yaml").data.prepare
    assert call["videos"] == configured.videos
    assert (call["seed"], call["workers"]) == (configured.seed, configured.workers)
    assert said(capsys) == ["data=rendered", f"data.root='{tmp_path / 'faces'}'"]


def test_render_takes_size_seed_and_workers(rendered, tmp_path, capsys):
    main(["data", "render", str(tmp_path), "--size", "rendered_large", "--seed", "3", "--workers", "2"])
    (call,) = rendered
    configured = OmegaConf.load(CONF / "data" / "rendered_large.yaml").data.prepare
    assert call["videos"] == configured.videos
    assert (call["seed"], call["workers"]) == (3, 2)
    assert said(capsys) == ["data=rendered_large", f"data.root='{tmp_path}'", "data.prepare.seed=3"]


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "a(1)", "[x]", "it's", "é", "2024", "null", "~x"])
def test_render_takes_folders_of_any_name(name, rendered, capsys):
    main(["data", "render", name])
    assert rendered[0]["out"] == name
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert hydra.compose("config", said(capsys)).data.root == name


def test_render_refuses_a_folder_with_something_else(tmp_path):
    (tmp_path / "thesis.tex").touch()
    message = stopped("data", "render", tmp_path)
    assert "thesis.tex" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "render", "out", "--size", "huge"], "invalid choice: 'huge'"),
        (["data", "render", "out", "--seed", "x"], "invalid int value"),
        (["data", "render"], "required: out"),
        (["table"], "required: runs"),
        (["tables"], "invalid choice: 'tables'"),
        ([], "required"),
    ],
)
def test_misspelt_commands_end_with_the_usage(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: aunet")
    assert said in error


def test_table_prints_and_writes(tmp_path, capsys):
    write_run(tmp_path, "b")
    write_run(tmp_path, "a", title="row with a [/] in its title")
    write_unfinished(tmp_path, "c", failed="the disk is full")
    main(["table", str(tmp_path)])
    printed = capsys.readouterr().out
    f1 = json.loads((tmp_path / "b" / "seed0" / "metrics.json").read_text())["val/f1"]
    assert re.search(rf"the b +{f1:.4f} ", printed)
    assert "row with a [/] in its title" in printed
    assert re.search(r"c +failed ", printed)
    assert "- c, seed 0: failed: the disk is full" in printed
    assert "- trivial predictor, every AU present: F1 0." in printed
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [(row["name"], row["f1"] is None) for row in rows] == [("a", False), ("b", False), ("c", True)]
    assert {path.name for path in tmp_path.glob("table.*")} == {
        "table.md", "table.csv", "table.json", "table.tex",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "suffix"), [("markdown", "md"), ("csv", "csv"), ("json", "json"), ("latex", "tex")]
)
def test_table_prints_any_format_alone(kind, suffix, tmp_path, capsys):
    write_run(tmp_path, "b")
    main(["table", str(tmp_path), "--format", kind])
    with (tmp_path / f"table.{suffix}").open(newline="") as file:
        assert capsys.readouterr().out == file.read()


def test_table_of_several_sweeps_is_written_where_it_is_told(tmp_path, capsys):
    for sweep in ("one", "two"):
        write_run(tmp_path / sweep, "ours")
        write_run(tmp_path / sweep, "b")
    main(["table", str(tmp_path / "one"), str(tmp_path / "two"), "--reference", "one/b"])
    assert not list(tmp_path.rglob("table.*"))
    assert capsys.readouterr().err == ""
    main(["table", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["one/ours", "one/b", "two/ours", "two/b"]
    assert "there is no row 'c' to compare with" in stopped("table", tmp_path / "one", "--reference", "c")
    missing = tmp_path / "three"
    assert f"{missing} holds no sweep" in stopped("table", tmp_path / "one", missing)


def test_table_names_its_files_so_that_they_can_be_copied(tmp_path, capsys):
    sweep = tmp_path / "a sweep [of many] with quite a long name, longer than any terminal is wide"
    write_run(sweep, "b")
    main(["table", str(sweep)])
    said = capsys.readouterr().err
    assert all(str(sweep / f"table.{kind}") in said for kind in ("md", "csv", "json", "tex"))


def test_table_without_runs(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        assert stopped("table", folder) == (
            f"aunet: {folder} holds no sweep (expected <row>/seed<k>/metrics.json)"
        )


@pytest.mark.parametrize("file", ["metrics.json", "predictions.npz"])
def test_table_of_damaged_runs_names_the_file(file, tmp_path):
    damaged = write_run(tmp_path, "a") / file
    damaged.write_bytes(b"PK\x03\x04")
    message = stopped("table", tmp_path)
    assert str(damaged) in message
    assert "\n" not in message
    damaged.unlink()
    if file == "predictions.npz":
        assert str(damaged) in stopped("table", tmp_path)


def test_table_of_different_data_is_refused(tmp_path):
    write_run(tmp_path, "a")
    write_run(tmp_path, "b", data_fingerprint="other")
    assert "different data" in stopped("table", tmp_path)
    assert not list(tmp_path.glob("table.*"))


def test_train_hands_its_arguments_to_hydra(monkeypatch):
    seen = []
    monkeypatch.setattr("aunet.command.main", lambda: seen.append(list(sys.argv)))
    monkeypatch.setattr(sys, "argv", ["aunet", "train", "--multirun", "lr=1e-3,1e-4"])
    main()
    assert seen == [["aunet train", "--multirun", "lr=1e-3,1e-4"]]


def test_process_ends_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "aunet.cli", "table", "nothing"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip() == ("aunet: nothing holds no sweep (expected <row>/seed<k>/metrics.json)")


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("aunet.localisation.study.place_of", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["attention", "nowhere"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "aunet: interrupted\n"


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("predict '' a.png -o a.csv", "run"),
        ("predict a a.png -o ''", "out"),
        ("predict a a.mp4 -o a.csv --overlay ''", "overlay"),
        ("predict a a.mp4 -o a.csv --timeline ''", "timeline"),
        ("submit '' --check", "path"),
        ("export ''", "run"),
        ("card a -o ''", "out"),
        ("demo ''", "run"),
    ],
)
def test_an_empty_name_is_neither_this_folder_nor_none(command, what, capsys):
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command))
    assert ended.value.code == 2
    assert f"an empty name: say which {what}" in capsys.readouterr().err
