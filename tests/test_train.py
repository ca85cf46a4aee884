"""Whole runs on tiny data: the run folder, skipping, and what users see when something is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from layouts import SPELLINGS, disfa_intensities, write_affwild2, write_disfa
from omegaconf import OmegaConf
from sklearn.metrics import f1_score

from aunet import config, runs
from aunet.callbacks import StepSeed
from aunet.config import CONF
from aunet.data.faults import DataError
from aunet.data.folds import DISFA_PARTS, fold_splits
from aunet.train import train
from aunet.trained import load, load_data
from aunet.weights import WeightsError

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def trained(affwild2, tmp_path_factory):
    """The run that ``finished`` hands out copies of, and its metrics."""
    cfg = config.compose(
        [
            *("experiment=table1/ours", "data=affwild2", f"data.root={affwild2}", "weights=none"),
            *(f"runs={tmp_path_factory.mktemp('trained')}", "logger=none", "progress=false"),
            *("host.threads=1", "host.keep_large_blocks=false", "batch_size=4"),
            *("bn_momentum=0.1", "epochs=2"),
        ]
    )
    return Path(cfg.out_dir), train(cfg)


@pytest.fixture
def finished(trained, compose):
    """A finished run of the paper's model: (configuration, folder, metrics)."""
    cfg = compose("experiment=table1/ours")
    shutil.copytree(trained[0], cfg.out_dir)
    return cfg, Path(cfg.out_dir), trained[1]


def test_run_folder_says_everything_about_itself(finished):
    cfg, folder, metrics = finished
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "config.yaml", "provenance.json", "best.ckpt", "history.csv", "predictions.npz", "metrics.json",
        "train.log",
    }  # fmt: skip
    assert "BatchNorm drift" in (folder / "train.log").read_text()  # after eight steps
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    with np.load(folder / "predictions.npz", allow_pickle=False) as predictions:
        logits, labels = predictions["logits"], predictions["labels"]
        assert logits.shape == labels.shape == (len(predictions["video"]), 12)
        assert predictions["frame"].shape == predictions["video"].shape
        assert predictions["aus"].tolist() == list(cfg.data.aus)
    detected = (1 / (1 + np.exp(-logits.astype(np.float64))) >= 0.5).astype(int)
    expected = [f1_score(labels[:, i], detected[:, i], zero_division=0) for i in range(12)]
    assert metrics["val/f1"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert [metrics[f"val/f1/AU{au}"] for au in cfg.data.aus] == pytest.approx(expected, abs=1e-6)
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["splits"]["train"]["frames"] > 0
    assert len(provenance["attempts"]) == 1


def test_best_weights_reload_and_give_the_predictions(finished, affwild2):
    cfg, folder, _ = finished
    torch.load(folder / "best.ckpt", weights_only=True)
    module = load(folder)
    assert not module.training
    from hydra.utils import instantiate

    datamodule = instantiate(cfg.data, _convert_="all")
    datamodule.setup("fit")
    with torch.inference_mode():
        logits = torch.cat([
            module.batch_logits(datamodule.on_after_batch_transfer(batch, 0))
            for batch in datamodule.val_dataloader()
        ])  # fmt: skip
    with np.load(folder / "predictions.npz") as predictions:
        np.testing.assert_allclose(logits.numpy(), predictions["logits"], atol=1e-5)


def test_loss_weights_travel_with_the_checkpoint(finished):
    _, folder, _ = finished
    train_split = json.loads((folder / "provenance.json").read_text())["splits"]["train"]
    weights = np.array(train_split["known"]) / (2 * np.array(train_split["positives"]))
    np.testing.assert_allclose(load(folder).loss.pos_weight.numpy(), weights, rtol=1e-6)


def test_data_of_a_run_are_read_again_and_fit_its_predictions(finished, affwild2, tmp_path):
    _, folder, _ = finished
    with np.load(folder / "predictions.npz") as predictions:
        for root in (None, shutil.copytree(affwild2, tmp_path / "moved")):
            table = load_data(folder, root).tables["val"]
            np.testing.assert_array_equal(table.labels, predictions["labels"])
            np.testing.assert_array_equal(np.array(table.videos)[table.video], predictions["video"])
            np.testing.assert_array_equal(table.frame, predictions["frame"])


def test_data_that_are_gone_or_others_are_refused(finished, tmp_path):
    _, folder, _ = finished
    with pytest.raises(DataError, match=r"nowhere, the data of .* is not there"):
        load_data(folder, tmp_path / "nowhere")
    write_affwild2(tmp_path / "others", seed=5)
    with pytest.raises(runs.RunError, match="holds other data than those of"):
        load_data(folder, tmp_path / "others")
    (folder / "metrics.json").unlink()
    with pytest.raises(runs.RunError, match="is no finished run"):
        load_data(folder)


def test_finished_run_is_skipped(finished):
    cfg, folder, metrics = finished
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert train(cfg) == metrics
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_changed_configuration_is_refused_and_named(finished, compose):
    with pytest.raises(runs.RunError, match=r"lr: 0\.001 -> 0\.01.*sweep=NAME"):
        train(compose("experiment=table1/ours", "lr=0.01"))


def test_changed_data_are_refused(finished, compose, affwild2, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(affwild2, other)
    crop = min(other.rglob("*.jpg"))
    for path in crop.parent.glob("*.jpg"):
        path.unlink()
    with pytest.raises(runs.RunError, match="data fingerprint"):
        train(compose("experiment=table1/ours", f"data.root={other}"))


def test_another_place_and_logger_are_no_change(finished, compose, affwild2, tmp_path):
    _, _, metrics = finished
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(affwild2, elsewhere)
    assert train(compose("experiment=table1/ours", f"data.root={elsewhere}", "logger=csv")) == metrics


def test_equal_seeds_give_equal_metrics_and_others_do_not(finished, compose):
    _, folder, metrics = finished
    again = train(compose("experiment=table1/ours", "sweep=again"))
    assert {k: v for k, v in again.items() if k.startswith("val/")} == {
        k: v for k, v in metrics.items() if k.startswith("val/")
    }
    other = compose("experiment=table1/ours", "sweep=again", "seed=1")
    train(other)
    with np.load(folder / "predictions.npz") as a, np.load(Path(other.out_dir) / "predictions.npz") as b:
        assert not np.allclose(a["logits"], b["logits"])


def assert_equal_runs(one, other):
    with (
        np.load(Path(one.out_dir) / "predictions.npz") as a,
        np.load(Path(other.out_dir) / "predictions.npz") as b,
    ):
        np.testing.assert_array_equal(a["logits"], b["logits"])


def test_bad_pictures_stop_a_run_by_name_and_can_be_skipped_then(compose, affwild2, tmp_path, caplog):
    """The run stops and names the file; the same command with data.on_bad=skip goes on, and counts."""
    data = tmp_path / "data"
    shutil.copytree(affwild2, data)
    crops = sorted(data.rglob("cropped_aligned/*/*.jpg"))
    good = {path: path.read_bytes() for path in (crops[7], crops[-3])}
    for path, content in good.items():  # one of training, one of validation; their places are sampled, too
        path.write_bytes(content[:300])
    cfg = compose("experiment=table1/ours", f"data.root={data}", "backbone.filters=[4,4,4,4,4,4]")
    with pytest.raises(DataError, match="not a readable JPEG") as caught:
        train(cfg)
    assert any(str(path) in str(caught.value) for path in good)
    skipping = compose(
        "experiment=table1/ours", f"data.root={data}", "backbone.filters=[4,4,4,4,4,4]", "data.on_bad=skip"
    )
    metrics = train(skipping)
    assert metrics["skipped_frames"] == {"train": 1, "val": 1}
    assert all(f"{path}: cannot be used, left out" in caplog.text for path in good)
    with np.load(Path(cfg.out_dir) / "predictions.npz") as predictions:
        assert (predictions["labels"] == -1).all(1).sum() == 1
        assert len(predictions["labels"]) == 10


def test_runs_from_files_and_from_a_store_are_the_same_run(compose, affwild2, tmp_path):
    from aunet.cli import main

    main(["data", "pack", str(affwild2), "--out", str(tmp_path / "store")])
    row = ("experiment=table1/ours", "backbone.filters=[4,4,4,4,4,4]")
    metrics = train(compose(*row))
    assert train(compose(*row, f"data.root={tmp_path / 'store'}")) == metrics
    from_store = compose(*row, f"data.root={tmp_path / 'store'}", "sweep=again")
    assert train(from_store)["val/f1"] == metrics["val/f1"]
    assert_equal_runs(compose(*row), from_store)


def test_a_test_fold_is_measured_but_chooses_nothing(tmp_path):
    """The best epoch is that of the validation subjects, whatever the test fold says."""
    splits = fold_splits(DISFA_PARTS, 2)
    few = [s for name in ("train", "val", "test") for s in sorted(s for s in splits if splits[s] == name)[:2]]
    root = write_disfa(tmp_path / "disfa", disfa_intensities(frames=6, subjects=few), size=112)
    cfg = config.compose(
        [
            *("data=disfa", f"data.root={root}", f"runs={tmp_path}", "data.read.fold=2", "logger=none"),
            *("progress=false", "host.threads=1", "host.keep_large_blocks=false", "batch_size=4", "epochs=2"),
            "backbone.filters=[4,4,4,4,4,4]",
        ]
    )
    OmegaConf.update(cfg, "out_dir", str(tmp_path / "run"))
    metrics = train(cfg)
    with (
        np.load(tmp_path / "run" / "predictions.npz") as val,
        np.load(tmp_path / "run" / "predictions_test.npz") as test,
    ):
        assert set(val["video"]) == {s for s in few if splits[s] == "val"}
        assert set(test["video"]) == {s for s in few if splits[s] == "test"}
        expected = [
            f1_score(test["labels"][:, i], test["logits"][:, i] >= 0, zero_division=0) for i in range(8)
        ]
    assert metrics["test/f1"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert [metrics[f"test/f1/AU{au}"] for au in cfg.data.aus] == pytest.approx(expected, abs=1e-6)
    history = (tmp_path / "run" / "history.csv").read_text()
    assert "test" not in history


def test_checkpoint_that_was_cut_off_is_not_gone_on_from(compose, caplog):
    cfg = compose("experiment=table1/ours", "epochs=1")
    folder = Path(cfg.out_dir)
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"PK\x03\x04" + bytes(1000))
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    caplog.set_level("INFO", logger="aunet")
    assert train(cfg)["epochs"] == 1
    assert "last.ckpt was cut off while it was written; starts anew" in caplog.text


def test_attempt_that_failed_before_training_may_be_mended(compose, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights"))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    row = ("experiment=table1/efficientnet", "epochs=1")
    with pytest.raises(InstantiationException, match="weights=none") as caught:
        train(compose(*row, "weights=imagenet"))
    assert isinstance(caught.value.__cause__, WeightsError)
    assert train(compose(*row, "weights=none"))["from_scratch"]


def test_learning_rate_is_set_after_the_given_epochs(compose):
    seen: list[float] = []

    class Record(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    from hydra.utils import instantiate

    cfg = compose("lr_epochs=5", "epochs=7", "backbone.filters=[4,4,4,4,4,4]")
    datamodule = instantiate(cfg.data, _convert_="all")
    module = instantiate(cfg.model, _convert_="all")
    trainer = pl.Trainer(
        max_epochs=7,
        callbacks=[Record()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(module, datamodule=datamodule)
    assert seen == pytest.approx([1e-3] * 5 + [1e-4] * 2)


def test_frozen_features_are_computed_once_and_change_nothing(compose, monkeypatch):
    """Logits from cached features equal those from frames."""
    cfg = compose("experiment=table1/baseline", "classifier.hidden=[16,16]")
    train(cfg)
    assert not (Path(cfg.out_dir) / "features").exists()
    module = load(cfg.out_dir)
    from hydra.utils import instantiate

    datamodule = instantiate(cfg.data, _convert_="all")
    datamodule.setup("fit")
    batch = next(iter(datamodule.val_dataloader()))
    with torch.inference_mode():
        logits = module(batch["frames"].permute(0, 3, 1, 2))
    with np.load(Path(cfg.out_dir) / "predictions.npz") as predictions:
        np.testing.assert_allclose(logits.numpy(), predictions["logits"][: len(logits)], atol=1e-4)


def test_unreadable_crop_is_named(compose, affwild2, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(affwild2, broken)
    for crop in broken.rglob("*.jpg"):
        crop.write_bytes(crop.read_bytes()[:40])
    with pytest.raises(DataError, match=r"\.jpg: not a readable JPEG"):
        train(compose(f"data.root={broken}"))


def test_not_a_number_stops_the_run(compose):
    with pytest.raises(FloatingPointError, match="lower lr"):
        train(compose("lr=1e30", "lr_after=1e30", "epochs=3"))


def command(*overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "train.py"), *overrides],
        cwd=cwd, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


SMALL = (
    "data=affwild2", "epochs=1", "batch_size=4", "weights=none", "logger=none", "host.threads=1",
    "backbone.filters=[4,4,4,4,4,4]",
)  # fmt: skip


def test_command_trains_on_a_folder_of_another_spelling(tmp_path):
    spelling = list(SPELLINGS)[2]
    root = write_affwild2(tmp_path / "data", spelling=spelling)
    done = command("experiment=table1/ours", f"data.root={root}", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train: " in done.stdout
    assert "val: " in done.stdout
    assert (tmp_path / "runs" / "table1" / "ours" / "seed0" / "metrics.json").exists()


def test_unknown_layout_ends_in_one_sentence(tmp_path):
    (tmp_path / "data").mkdir()
    done = command("experiment=table1/ours", f"data.root={tmp_path / 'data'}", *SMALL, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert "aunet: " in done.stderr
    assert "holds no AU annotations" in done.stderr


def test_configuration_on_disk_is_the_resolved_one(finished):
    _, folder, _ = finished
    assert "${" not in (folder / "config.yaml").read_text()
    assert OmegaConf.load(folder / "config.yaml").name == "ours"
    assert CONF.is_dir()


def test_every_seed_that_lightning_admits_serves():
    """A date such as 20250101 is a common one."""
    for seed in (0, 20250101, 2**32 - 1):
        step = SimpleNamespace(current_epoch=10**4)
        StepSeed(seed).on_train_batch_start(step, None, None, 10**6)
        drawn = torch.rand(2)
        StepSeed(seed).on_train_batch_start(step, None, None, 10**6)
        assert torch.equal(torch.rand(2), drawn)
