"""Several devices make the run that one makes: its steps, its frames, its folder; and failures end it.

On a CPU, by gloo. The runs descend by plain gradients: Adam takes the rounding noise in the gradient of a
bias before batch normalisation, which is zero in exact arithmetic, for a direction, with one process as well.
"""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import ddp_parts
import numpy as np
import pytest
import torch
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from layouts import write_affwild2
from pytorch_lightning.strategies import DDPStrategy
from test_datamodule import SIZE, datamodule, order
from torch import nn

from aunet import companions
from aunet.callbacks import SharedSkips, StepSeed
from aunet.companions import in_step
from aunet.data.faults import DataError
from aunet.data.loader import EpochBatches
from aunet.devices import Place, Termination, first_place
from aunet.dynamics import NORM, RATIO
from aunet.parallel import WholeBatchNorm, whole_batch, whole_batch_norms
from aunet.runs import RunError
from aunet.train import train

ROOT = Path(__file__).parent.parent
TWO = ("trainer.devices=2", "trainer.strategy=ddp")


# A step ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each of two processes gave, which shared the steps of ``ddp_parts``."""
    folder = tmp_path_factory.mktemp("shared")
    context = multiprocessing.get_context("spawn")
    second = context.Process(target=ddp_parts.share, args=(1, 2, str(folder)))
    second.start()
    threads = torch.get_num_threads()
    ddp_parts.share(0, 2, str(folder))
    torch.set_num_threads(threads)
    second.join()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_steps_are_those_of_one_process(shared):
    """Losses, gradients, weights and running statistics, also where the parts know different labels."""
    model = ddp_parts.network()
    expected = ddp_parts.steps(model, slice(None))
    for result in shared:
        assert result["losses"] == pytest.approx(expected["losses"], abs=1e-12)
        for ours, theirs in zip(result["gradients"], expected["gradients"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        assert result["state"].keys() == model.state_dict().keys()
        for name, value in model.state_dict().items():
            torch.testing.assert_close(result["state"][name], value, rtol=1e-9, atol=1e-12)


def test_rows_come_together_in_the_order_of_one_process(shared):
    assert all(result["order"].tolist() == list(range(ddp_parts.ROWS)) for result in shared)
    alone = torch.ones(3)
    assert whole_batch(alone) is alone


def test_normalisation_keeps_its_digits_and_types(shared):
    """A mean far above the deviation; half precision; evaluation as ever; and no statistics of one value."""
    expected = nn.BatchNorm1d(5)(ddp_parts.offset_values().double().float())
    for rank, result in enumerate(shared):
        torch.testing.assert_close(result["offset"], expected[rank::2], rtol=0, atol=2e-3)
        assert result["half"] == torch.bfloat16
        assert result["single"].endswith("more than one value of each feature in training")


@pytest.mark.parametrize(("device", "kind"), [("cpu", WholeBatchNorm), ("cuda", nn.SyncBatchNorm)])
def test_checkpoints_fit_both_forms(device, kind):
    plain, other = ddp_parts.network(), ddp_parts.network()
    tensors = {name: id(tensor) for name, tensor in other.named_parameters()}
    whole = whole_batch_norms(other, torch.device(device))
    assert [type(whole[index]) for index in (1, 5)] == [kind, kind]
    assert {name: id(tensor) for name, tensor in whole.named_parameters()} == tensors
    assert whole.load_state_dict(plain.state_dict())
    assert plain.load_state_dict(whole.state_dict())
    frames = ddp_parts.batch(0)[0]
    assert torch.equal(whole.eval()(frames), plain.eval()(frames))


# Frames ----------------------------------------------------------------------------------------------------


@given(
    world_size=st.integers(1, 5), share=st.integers(1, 6), size=st.integers(0, 80), epoch=st.integers(0, 3)
)
def test_every_step_takes_the_frames_of_one_process(world_size, share, size, epoch):
    def shuffled(number):
        return np.random.default_rng(number).permutation(size)

    def batches(rank, of):
        sampler = EpochBatches(shuffled, size, share * world_size, True, rank, of)
        sampler.set_epoch(epoch)
        rows = list(sampler)
        assert len(rows) == len(sampler)
        return rows

    whole = batches(0, 1)
    shares = [batches(rank, world_size) for rank in range(world_size)]
    assert {len(rows) for rows in shares} == {len(whole)}
    for step, expected in enumerate(whole):
        parts = [rows[step] for rows in shares]
        assert {len(part) for part in parts} == {share}
        assert np.stack(parts, 1).ravel().tolist() == expected.tolist()


@given(world_size=st.integers(1, 5), share=st.integers(1, 6), size=st.integers(0, 80))
def test_every_validation_frame_is_seen_once(world_size, share, size):
    samplers = [
        EpochBatches(lambda _: np.arange(size), size, share * world_size, False, rank, world_size)
        for rank in range(world_size)
    ]
    batches = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(rows) for rows in batches]
    assert all(0 < len(rows) <= share for of_one in batches for rows in of_one)
    assert sorted(row for of_one in batches for rows in of_one for row in rows) == list(range(size))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_affwild2(tmp_path_factory.mktemp("small"), size=SIZE)


def placed(root, rank, world_size, **arguments):
    """A data module in one of several processes."""
    module = datamodule(root, **arguments)
    cpu = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=cpu)
    return module


def test_batch_size_counts_the_frames_of_all_processes(small):
    whole = order(datamodule(small, batch_size=6).train_dataloader(), 1)
    parts = [order(placed(small, rank, 3, batch_size=6).train_dataloader(), 1) for rank in range(3)]
    assert [[len(rows) for rows in part] for part in parts] == [[2] * 3] * 3
    for step, rows in enumerate(whole):
        assert sorted(chain(*(part[step] for part in parts))) == sorted(rows)


@pytest.mark.parametrize(("batch_size", "named"), [(4, "batch_size=4 is"), (64, r"batch_size=18 \(all")])
def test_batch_that_cannot_be_shared_is_refused(small, batch_size, named):
    world_size = {4: 3, 64: 4}[batch_size]
    with pytest.raises(DataError, match=rf"{named}.*trainer\.devices={world_size} do not share it equally"):
        placed(small, 0, world_size, batch_size=batch_size).train_dataloader()


def test_more_processes_than_validation_frames_are_refused(small):
    with pytest.raises(DataError, match=r"trainer\.devices=11 are more than the 10 validation frames"):
        placed(small, 0, 11).val_dataloader()


def test_further_processes_take_the_features_of_the_first(small, tmp_path):
    """With the labels that it set to unknown, where pictures could not be used."""
    root = write_affwild2(tmp_path / "data", size=SIZE)
    damaged = datamodule(root).tables["train"].source.path(4)
    first, further = (datamodule(root, on_bad="skip") for _ in range(2))
    damaged.write_bytes(b"")
    first.cache_features(
        lambda frames: frames[:, :, ::8, ::8].float(), torch.device("cpu"), tmp_path / "maps"
    )
    further.open_features(tmp_path / "maps")
    for split in ("train", "val"):
        pairs = zip(*(module.batches(split, torch.device("cpu")) for module in (first, further)), strict=True)
        for ours, theirs in pairs:
            assert all(torch.equal(ours[key], theirs[key]) for key in ("features", "labels", "index"))
    assert (further.tables["train"].labels[4] == -1).all()
    assert (further.tables["train"].labels[5] >= 0).all()


def test_pictures_that_one_process_skips_are_known_to_all(small, monkeypatch, caplog):
    module = datamodule(small)
    module.count_skipped("val", [1])

    def gathered(into, own):
        into[:] = [own, {"train": {3, 5}, "val": {1, 2}}]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    SharedSkips().on_train_epoch_end(SimpleNamespace(world_size=2, datamodule=module), None)
    assert module.skipped == {"train": {3, 5}, "val": {1, 2}}
    assert caplog.text.count("cannot be used, left out") == 4  # each once
    SharedSkips().on_train_epoch_end(SimpleNamespace(world_size=1), None)


def test_processes_draw_numbers_of_their_own():
    def drawn(*arguments):
        StepSeed(*arguments).on_train_batch_start(SimpleNamespace(current_epoch=1), None, None, 2)
        return tuple(torch.rand(3).tolist())

    assert len({drawn(seed, rank) for seed in (0, 1, 2**32 - 1) for rank in range(4)}) == 12
    assert drawn(5, 0) == drawn(5)


# Processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "count"),
    [({"devices": 1}, 1), ({"devices": "2"}, 2), ({"devices": [0, 3, 1]}, 3), ({"devices": "auto"}, 1)],
)
def test_number_of_processes_on_a_cpu(keys, count):
    assert first_place({"accelerator": "cpu", **keys}).count == count


@pytest.mark.parametrize("asked", [0, -2, "two", []])
def test_unknown_number_of_devices_is_refused(asked):
    with pytest.raises(RunError, match=r"trainer\.devices=.* must be a number"):
        first_place({"accelerator": "cpu", "devices": asked})


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert first_place({"accelerator": "auto", "devices": -1}).count == 4
    assert first_place({"accelerator": "cpu", "devices": 8}).count == 8
    with pytest.raises(RunError, match=r"trainer\.devices=8, but this machine has 4 GPU"):
        first_place({"accelerator": "gpu", "devices": 8})


def test_strategy_is_ddp_only_where_there_are_several_processes():
    assert [Place().strategy(asked) for asked in ("auto", "ddp", "other")] == ["auto", "auto", "other"]
    for asked in ("auto", "ddp"):
        assert isinstance(Place(1, 2, 5000).strategy(asked), DDPStrategy)
    with pytest.raises(RunError, match=r"trainer\.strategy=fsdp must be ddp"):
        Place(0, 2, 5000).strategy("fsdp")


def test_a_sweep_refuses_several_devices(compose, monkeypatch):
    sweep = SimpleNamespace(initialized=lambda: True, get=lambda: SimpleNamespace(mode=RunMode.MULTIRUN))
    monkeypatch.setattr("aunet.train.HydraConfig", sweep)
    with pytest.raises(RunError, match="a sweep gives each row one process"):
        train(compose("experiment=table1/ours", *TWO))


@pytest.fixture
def other(monkeypatch):
    """Puts a small process in the place of the second one, which says what it is told to say."""
    started = []

    def prepare(target, argument, *messages):
        def start(place, part, arguments):
            context = multiprocessing.get_context("spawn")
            told, first = context.Pipe(duplex=False)
            process = context.Process(target=target, args=(argument,))
            process.start()
            for message in messages:
                first.send(message)
            first.close()
            started.append(process)
            return process, told

        monkeypatch.setattr(companions, "_start", start)
        return started

    return prepare


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:5123")


def test_process_that_ends_before_the_training_is_named(other):
    other(os._exit, 7)
    with (
        pytest.raises(RunError, match=r"process 1 of 2 ended without a word \(exit code 7"),
        in_step(Place(0, 2), print),
    ):
        pytest.fail("the body must not begin")


def test_what_another_process_raised_is_raised(other):
    other(os._exit, 1, None, DataError("crop 7 is broken"))
    with pytest.raises(DataError, match="crop 7 is broken"), in_step(Place(0, 2), print):
        raise LOST


def test_process_that_ends_in_training_is_named(other):
    other(os._exit, 9, None)
    with pytest.raises(RunError, match="exit code 9"), in_step(Place(0, 2), print):
        raise LOST


def test_every_thread_learns_how_a_process_ended():
    """The system tells it only once, and both the watching thread and the first's own ask."""
    context = multiprocessing.get_context("fork")
    for _ in range(50):
        process = context.Process(target=os._exit, args=(9,))
        process.start()
        with ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(lambda _, of=process: companions._exit_code(of, 60), range(4)))
        assert codes == [9] * 4


def test_contact_lost_though_no_process_failed_is_named(other, monkeypatch):
    monkeypatch.setattr(companions, "_PATIENCE", 0.1)
    other(time.sleep, 600, None)
    with (
        pytest.raises(RunError, match=r"have lost contact .*Connection closed"),
        in_step(Place(0, 2), print),
    ):
        raise LOST


@pytest.mark.parametrize("error", [DataError("crop 3 is broken"), KeyboardInterrupt()])
def test_own_failure_ends_the_others(other, error):
    started = other(time.sleep, 600, None)
    with pytest.raises(type(error)) as caught, in_step(Place(0, 2), print):
        raise error
    assert caught.value is error
    assert started[0].exitcode == -9


def _leave(code):
    """Of this module, for pickle: wandb puts a function of its own in the place of sys.exit."""
    raise SystemExit(code)


def _stuck_until(ended):
    assert ended.wait(60)
    raise LOST


def test_process_that_does_not_notice_a_loss_is_ended(other, monkeypatch, caplog):
    """As NCCL would not."""
    monkeypatch.setattr(companions, "_PATIENCE", 1.0)
    ended, codes = threading.Event(), []
    monkeypatch.setattr(os, "_exit", lambda code: (codes.append(code), ended.set()))
    other(_leave, 3, None)
    with pytest.raises(RunError), in_step(Place(0, 2), print):
        _stuck_until(ended)
    assert codes[0] == 1
    assert "process 1 of 2 ended without a word (exit code 3" in caplog.text


def test_process_of_several_leaves_when_asked_to(monkeypatch):
    """A further one silently, the first by way of everything that has to be closed."""
    handlers = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    Termination().on_train_start(SimpleNamespace(world_size=1), None)
    assert not handlers
    Termination().on_train_start(SimpleNamespace(world_size=2, is_global_zero=False), None)
    assert handlers == {signal.SIGTERM: signal.SIG_DFL}
    Termination().on_train_start(SimpleNamespace(world_size=2, is_global_zero=True), None)
    with pytest.raises(SystemExit) as caught:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert caught.value.code == 143


# Whole runs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """21 training and 15 validation frames, some with an unknown label."""
    return write_affwild2(
        tmp_path_factory.mktemp("uneven"), videos=(3, 3), frames=(6, 4), traps=["partly_unknown_row"]
    )


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.filterwarnings("ignore")
def test_run_on_two_devices_is_the_run_on_one(compose, uneven, tmp_path, monkeypatch):
    """Though it fails within its second epoch, in one sentence, and the same command has to go on."""
    row = (
        *("experiment=table1/ours", "backbone.filters=[4,4,4]", "data.read.drop_row_if_any=false"),
        *(f"data.root={uneven}", "data.val_batch_size=7", "checkpoint_minutes=0", "lr=0.05", "lr_after=0.05"),
        *("optimizer._target_=torch.optim.SGD", "~optimizer.betas", "~optimizer.eps"),
        *("loss._target_=ddp_parts.Stumbling", f"+loss.flag={tmp_path / 'flag'}", "+loss.at=8"),
    )
    one, two = compose(*row, "sweep=one"), compose(*row, "sweep=two", "trainer=ddp")
    folder = Path(two.out_dir)
    failed = subprocess.run(
        [
            *(sys.executable, ROOT / "experiments" / "train.py", *row, "sweep=two", "trainer=ddp"),
            *("data=affwild2", f"runs={tmp_path}", "weights=none", "progress=false", "host.threads=1"),
            *("batch_size=4", "bn_momentum=0.1", "epochs=2", "logger=none"),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    said = failed.stdout + failed.stderr
    assert failed.returncode == 1, said
    assert "Traceback" not in said
    assert failed.stderr.count("aunet: ours seed 0: crop 7 is broken") == 1
    assert said.count("epoch 1/2") == said.count("train: 3 videos") == 1
    assert not (folder / "metrics.json").exists()
    assert len(history(folder)) == 1

    metrics, expected = train(two), train(one)
    attempts = json.loads((folder / "provenance.json").read_text())["attempts"]
    assert [attempt["processes"] for attempt in attempts] == [2, 2]
    assert metrics["recipe_digest"] == expected["recipe_digest"]
    for key in expected:
        if key.startswith("val/"):
            assert metrics[key] == pytest.approx(expected[key], abs=1e-4), key
    for ours, theirs in zip(history(folder), history(Path(one.out_dir)), strict=True):
        assert ours.keys() == theirs.keys() >= {"train/loss", "val/loss", "val/f1", "val/f1/AU26"}
        for key in theirs.keys() - {"seconds"}:
            # The gradient of one step jumps where rounding switches a unit on or off.
            apart = {"rel": 0.02} if key in (NORM, RATIO) else {"abs": 1e-4}
            assert ours[key] == pytest.approx(theirs[key], **apart), key
    ours, theirs = (np.load(Path(cfg.out_dir) / "predictions.npz") for cfg in (two, one))
    assert len(ours["logits"]) == 15
    np.testing.assert_allclose(ours["logits"], theirs["logits"], atol=1e-4)
    for key in ("labels", "video", "frame"):
        np.testing.assert_array_equal(ours[key], theirs[key])
    states = [
        torch.load(Path(cfg.out_dir) / "best.ckpt", weights_only=True)["state_dict"] for cfg in (two, one)
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[1].items():
        torch.testing.assert_close(states[0][name], value, rtol=1e-4, atol=1e-4)

    # Finished on any number of devices, without another process.
    monkeypatch.setattr(companions, "_start", lambda *_: pytest.fail("a process was started"))
    assert train(two) == metrics
    assert train(compose(*row, "sweep=one", *TWO)) == expected
