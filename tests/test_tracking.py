"""What loggers are told of each epoch and at the end, all of them the same; and who may see faces."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from pytorch_lightning.loggers import CSVLogger
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, log_loss, precision_recall_curve
from sklearn.metrics import precision_recall_fscore_support as scores
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aunet.data.loader import EpochBatches, FrameLoader
from aunet.measures import BINS
from aunet.overlays import overlay
from aunet.runs import RunError
from aunet.tracking import figures, loggers, results
from aunet.tracking.attempts import attempt_name, attempts, describe
from aunet.tracking.epochs import EpochLog
from aunet.tracking.frames import errors, frame_losses, sheet, worst_frames, worst_rows
from aunet.tracking.loggers import close_loggers
from aunet.tracking.results import may_send_faces
from aunet.train import train
from aunet.trained import load, load_data

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("nobody")]

SEVERAL = ("logger=none", *(f"+logger@logger.{name}={name}" for name in ("csv", "tensorboard", "mlflow")))


def test_every_logger_gets_the_same(compose, tmp_path):
    cfg = compose("experiment=table1/ours", "log_frames=true", "trainer.log_every_n_steps=1", *SEVERAL)
    metrics = train(cfg)
    folder = Path(cfg.out_dir)

    events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("table1").experiment_id])
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    scalars = set(events.Tags()["scalars"])
    assert scalars == set(run.data.metrics) == set(lines[0]) - {"step"}
    assert {
        "epoch", "lr", "time/frames_per_second", "time/data_wait", "train/loss_step", "val/loss",
        "val/f1/AU1", "val/precision/AU1", "val/recall/AU26", "val/tp/AU1", "best/val/f1",
        "best/val/ece", "best/val/fn/AU2", "best/val/average_precision/AU4",
    } <= scalars  # fmt: skip

    with (folder / "history.csv").open(newline="") as file:
        history = [float(row["val/f1"]) for row in csv.DictReader(file)]
    points = client.get_metric_history(run.info.run_id, "val/f1")
    for told in (
        [event.value for event in events.Scalars("val/f1")],
        [point.value for point in sorted(points, key=lambda point: point.step)],
        [float(line["val/f1"]) for line in lines if line["val/f1"]],
    ):
        assert told == pytest.approx(history)
    assert run.data.metrics["best/val/f1"] == pytest.approx(metrics["val/f1"])
    assert (run.info.run_name, run.info.status) == ("ours-seed0", "FINISHED")
    assert run.data.params["model.network.num_aus"] == "12"
    assert run.data.params["data_fingerprint"] == metrics["data_fingerprint"]
    pictures = {f"best/{name}" for name in ("precision_recall", "reliability", "worst_frames")}
    assert set(events.Tags()["images"]) == pictures
    assert {file.path for file in client.list_artifacts(run.info.run_id, "best")} == {
        *(f"{name}.png" for name in pictures), "best/worst_frames.md",
    }  # fmt: skip
    check_best(run.data.metrics, folder, cfg.data.aus)


def check_best(told, folder, aus) -> None:
    """Against scikit-learn, from the predictions."""
    with np.load(folder / "predictions.npz") as file:
        logits, labels = file["logits"].astype(np.float64), file["labels"]
    for i, au in enumerate(aus):
        precision, recall, _, _ = scores(labels[:, i], logits[:, i] >= 0, average="binary", zero_division=0)
        assert told[f"best/val/precision/AU{au}"] == pytest.approx(precision)
        assert told[f"best/val/recall/AU{au}"] == pytest.approx(recall)
        assert told[f"best/val/average_precision/AU{au}"] == pytest.approx(
            average_precision_score(labels[:, i], logits[:, i])
        )


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_start"], ids=["begins", "goes on"])
def test_epochs_speed_and_wait_by_a_clock_of_our_own(monkeypatch, hook):
    """Each look at the clock takes a second: 2 for a batch that is waited for, and none where nothing is."""
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    rows = EpochBatches(lambda _: np.arange(10), 10, 5)
    loader = FrameLoader(_Frames(), rows)
    told = []
    trainer = SimpleNamespace(
        world_size=2, current_epoch=3, global_step=40, train_dataloader=loader, is_last_batch=False,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])],
        loggers=[SimpleNamespace(log_metrics=lambda metrics, step: told.append((step, metrics)))],
    )  # fmt: skip
    module = SimpleNamespace(confusion=torch.tensor([[3, 0], [1, 0], [2, 5]]), aus=(1, 12))
    epoch = EpochLog()
    getattr(epoch, hook)(trainer, module)  # at 0
    for number, batch in enumerate(loader):  # asks at 1 and 3, gets at 2 and 4
        trainer.is_last_batch = number == 1
        epoch.on_train_batch_end(trainer, module, {"loss": torch.tensor(1.0)}, batch, number)  # the last at 5
    epoch.on_train_epoch_end(trainer, module)
    ((step, found),) = told
    assert step == 40
    assert found == {
        "epoch": 3, "lr": 0.5,
        "time/frames_per_second": 2 * 10 / 5,
        "time/data_wait": 3 / 5,  # also for the news that there is no more, which is asked for at 6
        "val/precision/AU1": 0.75, "val/recall/AU1": 0.6, "val/tp/AU1": 3, "val/fp/AU1": 1, "val/fn/AU1": 2,
        "val/precision/AU12": 0, "val/recall/AU12": 0, "val/tp/AU12": 0, "val/fp/AU12": 0, "val/fn/AU12": 5,
    }  # fmt: skip


class _Frames(torch.utils.data.Dataset):
    def __getitems__(self, rows):
        return {"labels": torch.zeros(len(rows), 2)}


def test_without_loggers_nothing_is_told():
    trainer = SimpleNamespace(loggers=[])
    EpochLog().on_train_epoch_end(trainer, None)  # would fail if it looked at anything else


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 9)), min_size=1, max_size=40), st.integers(1, 8))
def test_worst_rows_are_the_worst_of_different_videos(frames, most):
    video, loss = (np.array(column) for column in zip(*frames, strict=True))
    found = worst_rows(loss, video, most)
    assert len(found) == min(most, len(set(video)))
    assert len(set(video[found])) == len(found)
    assert loss[found].tolist() == sorted((max(loss[video == v]) for v in set(video)), reverse=True)[:most]


def test_frame_losses_are_scikit_learns():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 3)), rng.integers(0, 2, (7, 3))
    found = frame_losses(logits, labels)
    for row, au in np.ndindex(labels.shape):
        prob = 1 / (1 + np.exp(-logits[row, au]))
        assert found[row, au] == pytest.approx(log_loss([labels[row, au]], [prob], labels=[0, 1]))
    labels[2, 1] = -1
    assert frame_losses(logits, labels)[2, 1] == 0
    assert np.isfinite(frame_losses(np.array([[900.0]]), np.array([[0]]))).all()


@pytest.mark.parametrize("row", ["attention_grid/per_au_2x2", "table1/ours", "table1/without_attention"])
def test_worst_frames_show_what_was_attended_to(compose, row):
    cfg = compose(f"experiment={row}", "epochs=1", "backbone.filters=[4,4,4,4,8,8]")
    train(cfg)
    folder = Path(cfg.out_dir)
    module, data = load(folder), load_data(folder)
    with np.load(folder / "predictions.npz") as file:
        logits, labels, video, frame = (file[key] for key in ("logits", "labels", "video", "frame"))
    labels[:, 3] = -1
    found = worst_frames(module, data, logits, labels, with_pictures=True)
    assert [f.loss for f in found] == sorted((f.loss for f in found), reverse=True)
    for worst in found:
        (at,) = np.flatnonzero((video == worst.video) & (frame == worst.frame))
        losses = np.array([
            np.nan if label < 0 else log_loss([label], [1 / (1 + np.exp(-x))], labels=[0, 1])
            for x, label in zip(logits[at].astype(np.float64), labels[at], strict=True)
        ])  # fmt: skip
        assert worst.loss == pytest.approx(np.nanmean(losses), rel=1e-5)
        assert worst.worst == np.nanargmax(losses)
        (image,) = data.frames("val", [at])
        np.testing.assert_array_equal(worst.image, image)
        if row == "table1/without_attention":
            assert worst.attention is None
            continue
        with torch.inference_mode():
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
            maps = module.network.attention.weights(module.network.features(pixels))[0].numpy()
        shown = overlay(image, maps[worst.worst] if maps.ndim == 3 else maps).astype(int)
        assert np.abs(worst.attention.astype(int) - shown).max() <= 1
    assert sheet(found, cfg.data.aus).shape[2] == 3
    withheld = worst_frames(module, data, logits, labels, with_pictures=False)
    assert [(f.video, f.frame, f.image, f.attention) for f in withheld] == [
        (f.video, f.frame, None, None) for f in found
    ]


def test_errors_in_words():
    found = SimpleNamespace(labels=np.array([1, 0, -1, 1]), probs=np.array([0.02, 0.97, 0.9, 0.5]))
    assert errors(found, (1, 2, 4, 12)) == "missed AU1 (0.02); false AU2 (0.97)"
    found = SimpleNamespace(labels=np.array([1]), probs=np.array([0.7]))
    assert errors(found, (1,)) == "nothing missed or false"


@pytest.fixture
def predicted(monkeypatch):
    """Probabilities and labels of 3 AUs, the last never present; figures are left as they are."""
    monkeypatch.setattr(figures, "picture_of", lambda figure: figure)
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 3)) < (0.4, 0.1, 0)).astype(np.int8)
    probs = (0.5 * rng.random((400, 3)) + 0.5 * rng.random((400, 3)) * labels).astype(np.float32)
    return probs, labels


def test_precision_recall_curves_are_scikit_learns(predicted):
    probs, labels = predicted
    axes = figures.precision_recall(probs, labels, (1, 2, 4)).axes
    for au in range(2):
        precision, recall, _ = precision_recall_curve(labels[:, au], probs[:, au])
        drawn = axes[au].lines[0].get_xydata()
        np.testing.assert_allclose(drawn, np.stack([recall, precision], 1)[-2::-1][: len(drawn)])
        assert axes[au].lines[1].get_ydata()[0] == pytest.approx(labels[:, au].mean())
    assert "AP 0." in axes[0].get_title()
    assert not axes[2].lines


def test_reliability_curves_are_scikit_learns(predicted):
    probs, labels = predicted
    axes = figures.reliability(probs, labels, (1, 2, 4)).axes
    for au in range(2):
        share, mean = calibration_curve(labels[:, au], probs[:, au], n_bins=BINS)
        np.testing.assert_allclose(axes[au].lines[1].get_xydata(), np.stack([mean, share], 1), atol=1e-6)


def test_long_curves_are_thinned_and_become_pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (5000, 5), np.int8)
    pixels = figures.precision_recall(rng.random((5000, 5)), labels, (1, 2, 4, 6, 7))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (2 * 200, 4 * 200, 3)
    assert pixels.min() < 100 < 250 < pixels.max()


@pytest.mark.parametrize(
    ("asked", "data", "expected"),
    [
        ("auto", "rendered", True), ("auto", "rendered_large", True), ("auto", "affwild2", False),
        (True, "disfa", True), (False, "rendered", False),
    ],
)  # fmt: skip
def test_faces_are_sent_where_licences_allow_it(asked, data, expected):
    assert may_send_faces(asked, data) is expected


def test_faces_of_recorded_people_are_kept_back_and_said_so(compose, caplog):
    caplog.set_level("INFO", logger="aunet")
    cfg = compose("experiment=table1/ours", "epochs=1", "logger=tensorboard")
    train(cfg)
    events = EventAccumulator(str(Path(cfg.out_dir) / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"best/precision_recall", "best/reliability"}
    assert caplog.text.count("pictures of affwild2 are kept from the loggers") == 1


def test_unknown_wish_for_faces_is_refused_before_training(compose):
    with pytest.raises(RunError, match="log_frames=perhaps must be auto, true or false"):
        train(compose("experiment=table1/ours", "log_frames=perhaps"))


def test_picture_that_fails_costs_no_run(compose, monkeypatch, caplog):
    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(results.figures, "reliability", broken)
    metrics = train(compose("experiment=table1/ours", "epochs=1", "logger=tensorboard"))
    assert metrics["val/f1"] >= 0
    assert "loggers lack some of the run's end: OSError: disk full" in caplog.text


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_logger_that_is_not_installed_names_the_extra(logger, compose, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(
        Exception, match=rf"logger={logger} needs the extra '{logger}', which is not installed"
    ):
        train(compose("experiment=table1/ours", f"logger={logger}"))


def test_attempts_are_counted_and_named(tmp_path):
    assert attempts(tmp_path) == 0
    (tmp_path / "provenance.json").write_text('{"attempts": [{"cores": 1}, {"cores": 2}], "commit": "abc"}')
    assert attempts(tmp_path) == 2
    assert [attempt_name("ours-seed0", n) for n in range(4)] == [
        "ours-seed0", "ours-seed0", "ours-seed0-attempt2", "ours-seed0-attempt3",
    ]  # fmt: skip
    found = describe(tmp_path, {"seed": 0, "data": {"aus": [1, 2], "read": {"file": None}}})
    assert found.pop("config_digest") != found.pop("recipe_digest")
    assert found == {
        "seed": 0, "data.aus": [1, 2], "data.read.file": None, "commit": "abc", "aunet": None,
        "data_fingerprint": None, "packages": None, "attempt": 2, "hardware.cores": 2,
    }  # fmt: skip


def test_closing_writes_what_loggers_hold(tmp_path):
    logger = CSVLogger(str(tmp_path), name="", version="csv", flush_logs_every_n_steps=1000)
    logger.log_metrics({"val/f1": 0.25}, step=0)
    close_loggers([logger], succeeded=True)
    assert "0.25" in (tmp_path / "csv" / "metrics.csv").read_text()
