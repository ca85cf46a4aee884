"""Runs on wandb, by its real client: with a server of our own on the loopback, one that dies, and none."""

import csv
import json
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import wandb
from run_folders import AUS, write_run
from wandb_server import ENTITY, KEY, Run, serving

from aunet.cli import main
from aunet.module import ActionUnitModule
from aunet.tracking import loggers, on_wandb, sync
from aunet.tracking.on_wandb import wandb_logger
from aunet.train import train

DASHBOARD = Path(__file__).parent.parent / "experiments" / "dashboard.py"
SMALL = ("logger=wandb", "backbone.filters=[4,4,4,4,8,8]")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("nobody")]


@pytest.fixture
def server(monkeypatch):
    """A server, and a user who has a key for it."""
    with serving() as server:
        online(monkeypatch, server.url)
        yield server


def online(monkeypatch, url: str) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """``aunet``, as a user calls it."""
    return subprocess.run(
        [sys.executable, "-m", "aunet.cli", *words], capture_output=True, text=True, timeout=280, check=False
    )


def read(file: Path) -> dict:
    """What wandb's own reader finds in a run's file: its summary, with the rows of its history."""
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    found = json.loads(subprocess.check_output([*inspect, "--summary", str(file)], text=True))
    lines = subprocess.check_output([*inspect, str(file)], text=True).splitlines()
    return found | {"records": [json.loads(line) for line in lines]}


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)


def test_sweep_leaves_a_run_for_each_row_and_seed(server, affwild2, tmp_path):
    done = command(
        "train", "--multirun", "experiment=table1/ours,table1/without_attention", "seed=0,1", *SMALL,
        "hydra/launcher=basic", "data=affwild2", f"data.root={affwild2}", f"runs={tmp_path}", "batch_size=4",
        "bn_momentum=0.1", "epochs=1", "weights=none", "progress=false", "host.threads=1", "log_frames=true",
        "logger.best_checkpoint=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(server.runs) == 4
    assert not server.unknown
    for identity, run in server.runs.items():
        row, seed = run.config["name"], run.config["seed"]
        folder = tmp_path / "table1" / row / f"seed{seed}"
        metrics = json.loads((folder / "metrics.json").read_text())
        assert identity.startswith(f"{row}-seed{seed}-")
        assert run.facts["displayName"] == f"{row}-seed{seed}"
        assert (run.facts["groupName"], run.facts["jobType"]) == ("table1", row)
        assert run.facts["project"] == "aunet"
        assert run.config["model.network.num_aus"] == 12
        assert run.config["backbone.filters"] == [4, 4, 4, 4, 8, 8]
        for key in ("data_fingerprint", "config_digest", "recipe_digest"):
            assert run.config[key] == metrics[key]
        assert run.config["packages.torch"]
        assert "commit" in run.config
        assert run.config["hardware.cores"] >= 1
        assert (run.config["attempt"], run.config["finished"]) == (1, True)
        assert run.exit_code == 0
        with (folder / "history.csv").open(newline="") as file:
            expected = [float(line["val/f1"]) for line in csv.DictReader(file)]
        assert [line["val/f1"] for line in run.history if "val/f1" in line] == pytest.approx(expected)
        assert run.summary["best/val/f1"] == pytest.approx(metrics["val/f1"])
        for name in ("precision_recall", "reliability", "worst_frames"):
            assert run.files[run.summary[f"best/{name}"]["path"]].startswith(b"\x89PNG")
        files = server.artifact(f"{identity}-best")
        assert files["best.ckpt"] == (folder / "best.ckpt").read_bytes()
        check_table(run, server.artifact(f"run-{identity}-bestworst_frames_table"), row)


def check_table(run: Run, files: dict[str, bytes], row: str) -> None:
    """The worst frames, with pictures that have arrived."""
    told = run.summary["best/worst_frames_table"]
    assert (told["_type"], told["nrows"]) == ("table-file", 2)  # one of each video
    assert told["path"] in run.files
    table = json.loads(files["best/worst_frames_table.table.json"])
    assert table["columns"][:6] == ["video", "frame", "loss", "worst AU", "image", "attention"]
    assert table["columns"][6:8] == ["AU1 label", "AU1 probability"]
    losses = [values[2] for values in table["data"]]
    assert losses == sorted(losses, reverse=True)
    for values in table["data"]:
        assert files[values[4]["path"]].startswith(b"\x89PNG")
        assert (values[5] is None) == (row == "without_attention")


def test_server_that_dies_midway_costs_nothing(server, compose, monkeypatch, tmp_path, caplog, capsys):
    cfg = compose("experiment=table1/ours", *SMALL, "logger.finish_timeout=1", "log_frames=true")
    original = ActionUnitModule.on_train_epoch_end

    def kill(self):
        original(self)
        if self.current_epoch == 0:
            server.stop()

    monkeypatch.setattr(ActionUnitModule, "on_train_epoch_end", kill)
    monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 2)
    started = time.monotonic()
    metrics = train(cfg)
    assert time.monotonic() - started < 60
    (run,) = server.runs.values()
    assert "best/val/f1" not in run.summary
    assert f"upload it by `aunet sync {tmp_path / 'table1'}`" in caplog.text
    with serving(server.port) as again:
        main(["sync", "--dry-run", str(tmp_path)])
        assert "would be uploaded: table1/ours/seed0" in capsys.readouterr().out
        assert not again.runs
        main(["sync", str(tmp_path)])
        assert "1 runs, 0 of them uploaded before" in capsys.readouterr().out
        (run,) = again.runs.values()
        assert run.summary["best/val/f1"] == pytest.approx(metrics["val/f1"])
        assert run.config["finished"] is True
        assert len([line for line in run.history if "val/f1" in line]) == 2
        for name in ("precision_recall", "worst_frames", "worst_frames_table"):
            assert run.summary[f"best/{name}"]["path"] in run.files
        main(["sync", str(tmp_path)])
        assert "1 runs, 1 of them uploaded before" in capsys.readouterr().out


def test_run_that_goes_on_is_another_attempt_of_the_same_group(
    compose, monkeypatch, tmp_path, caplog, capsys
):
    caplog.set_level("INFO", logger="aunet")
    cfg = compose("experiment=table1/ours", *SMALL, "epochs=3", "lr_epochs=2", "log_frames=true")
    original = ActionUnitModule.training_step

    def step(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (1, 1):
            monkeypatch.setattr(ActionUnitModule, "training_step", original)
            raise RuntimeError("killed")
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ActionUnitModule, "training_step", step)
    with pytest.raises(RuntimeError, match="killed"):
        train(cfg)
    metrics = train(cfg)
    assert caplog.text.count("wandb: no key is set") == 2
    first, second = map(read, offline_runs(Path(cfg.out_dir)))
    assert [run["config"]["attempt"] for run in (first, second)] == [1, 2]
    assert [run["config"]["finished"] for run in (first, second)] == [False, True]
    assert [run["exit_code"] for run in (first, second)] == [1, 0]
    names = [facts(run)["display_name"] for run in (first, second)]
    assert names == ["ours-seed0", "ours-seed0-attempt2"]
    for run in (first, second):
        assert (facts(run)["run_group"], facts(run)["job_type"]) == ("table1", "ours")
    assert len({facts(run)["run_id"] for run in (first, second)}) == 2
    for key in [key for key in metrics if key.startswith("val/")]:
        assert second["summary"][f"best/{key}"] == pytest.approx(metrics[key])
    with serving() as server:
        online(monkeypatch, server.url)
        wandb.teardown()
        main(["sync", str(tmp_path)])
        assert set(server.runs) == {facts(second)["run_id"]}  # the attempt that finished
        assert len(server.artifact(f"run-{facts(second)['run_id']}-bestworst_frames_table")) > 3
        main(["sync", "--all", str(tmp_path)])
        assert set(server.runs) == {facts(run)["run_id"] for run in (first, second)}
    main(["sync", "--all", str(tmp_path)])
    assert capsys.readouterr().out.endswith("2 runs, 2 of them uploaded before\n")


def facts(run: dict) -> dict:
    return next(record for record in run["records"] if record["type"] == "run")["run"]


def test_wandb_mode_decides(compose, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    cfg = compose("experiment=table1/ours", *SMALL, "epochs=1")
    train(cfg)
    assert not list(Path(cfg.out_dir).rglob("run-*"))


@pytest.mark.parametrize(
    ("key", "mode", "expected"),
    [(None, None, "offline"), (KEY, None, "online"), (KEY, "offline", "offline")],
)
def test_mode_follows_key_and_environment(key, mode, expected, tmp_path, monkeypatch):
    init = MagicMock()
    monkeypatch.setattr(on_wandb.wandb, "init", init)  # no server
    for name, value in (("WANDB_API_KEY", key), ("WANDB_MODE", mode)):
        if value is not None:
            monkeypatch.setenv(name, value)
    folder = tmp_path / "table1" / "ours" / "seed0"
    wandb_logger("aunet", "table1", "ours", "ours/seed0", str(folder), notes="a word")
    asked = init.call_args.kwargs
    assert (asked["mode"], asked["notes"]) == (expected, "a word")
    assert re.fullmatch("ours-seed0-[0-9a-f]{8}-a1", asked["id"])
    assert (folder / "wandb").is_dir()


def test_server_that_does_not_answer_is_given_up(compose, monkeypatch, tmp_path, caplog, capsys):
    with serving() as server:
        port = server.port
    online(monkeypatch, f"http://127.0.0.1:{port}")  # nobody is there any more
    cfg = compose("experiment=table1/ours", *SMALL, "epochs=1", "logger.init_timeout=1")
    metrics = train(cfg)
    assert caplog.text.count("wandb: the server cannot be used") == 1
    (file,) = offline_runs(Path(cfg.out_dir))
    assert not list(Path(cfg.out_dir).glob("wandb/run-*"))
    assert read(file)["summary"]["best/val/f1"] == pytest.approx(metrics["val/f1"])
    monkeypatch.setattr(sync, "_PATIENCE", {"WANDB__GRAPHQL_RETRY_MAX": "1"})
    with pytest.raises(SystemExit, match="1"):
        main(["sync", str(tmp_path)])
    said = capsys.readouterr().out
    assert re.search(r"failed: table1/ours/seed0 \(ours-seed0-\w+-a1\): .*connection refused", said)
    assert "1 runs, 0 of them uploaded before" in said
    assert not Path(f"{file}.synced").exists()


@pytest.fixture
def dashboard(monkeypatch, capsys):
    """Runs the script; gives what it prints."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(DASHBOARD), *map(str, words)])
        wandb.teardown()  # settings are read anew
        runpy.run_path(str(DASHBOARD), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_dashboard_is_checked_offline_and_saved_with_a_key(dashboard, tmp_path, monkeypatch):
    sweep, out = tmp_path / "table1", tmp_path / "workspace.json"
    write_run(sweep, "ours")
    assert f"written to {out}, but not saved: no key is set" in dashboard(sweep, "--out", out)
    view = json.loads(out.read_text())
    with serving() as server:
        online(monkeypatch, server.url)
        assert f"{server.url}/{ENTITY}/aunet?nw=" in dashboard(sweep)
        (saved,) = server.views
    assert (saved["entityName"], saved["projectName"], saved["displayName"]) == (
        ENTITY,
        "aunet",
        "aunet table1",
    )
    section = json.loads(saved["spec"])["section"]
    for found in (section, view["spec"]["section"]):
        text = json.dumps(found)
        assert all(f"best/val/f1/AU{au}" in text for au in AUS)
        assert all(words in text for words in ("jobType", "stddev"))
        told = {f["key"]["name"]: f["value"] for f in found["runSets"][0]["filters"]["filters"]}
        assert told == {"group": "table1", "state": "finished"}


def test_dashboard_of_no_runs(dashboard, tmp_path):
    with pytest.raises(SystemExit, match=f"aunet: {tmp_path} holds no finished run"):
        dashboard(tmp_path)


def test_dashboard_without_its_extra(dashboard, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    write_run(tmp_path, "ours")
    with pytest.raises(SystemExit, match="aunet: the dashboard needs the extra 'dashboard'"):
        dashboard(tmp_path)


def test_sync_without_a_key(tmp_path):
    (write_run(tmp_path, "ours") / "wandb" / "offline-run-1").mkdir(parents=True)
    (tmp_path / "ours" / "seed0" / "wandb" / "offline-run-1" / "run-x-a1.wandb").touch()
    with pytest.raises(SystemExit, match="aunet: wandb has no key: set WANDB_API_KEY, or give `wandb login`"):
        main(["sync", str(tmp_path)])
