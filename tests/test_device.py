"""Batches on their way to the device; all but the device call itself runs here on a CPU."""

from contextlib import contextmanager
from itertools import chain

import numpy as np
import pytest
import torch
from layouts import write_affwild2

from aunet.data.affwild2 import read_affwild2
from aunet.data.batches import FrameDataset
from aunet.data.datamodule import FrameDataModule
from aunet.data.device import CudaSide, decode_frames, prefetched, to_device
from aunet.data.faults import DataError
from aunet.data.loader import EpochBatches, FrameLoader
from aunet.facs import AFFWILD2

SIZE = 16
CPU = torch.device("cpu")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return read_affwild2(write_affwild2(tmp_path_factory.mktemp("data"), size=SIZE))["train"]


class RecordedSide:
    """Stands for a stream; writes down what happens in which order."""

    def __init__(self):
        self.events = []
        self.inside = False

    @contextmanager
    def running(self):
        self.inside = True
        yield
        self.inside = False

    def join(self, batch):
        self.events.append(f"join {int(batch['index'][0])}")
        return batch


def numbered(count):
    return ({"index": torch.tensor([number])} for number in range(count))


def test_the_next_batch_is_on_its_way_while_one_is_in_use():
    side = RecordedSide()

    def move(batch):
        assert side.inside
        side.events.append(f"move {int(batch['index'][0])}")
        return batch

    for batch in prefetched(numbered(3), move, side):
        side.events.append(f"use {int(batch['index'][0])}")
    assert side.events == [
        "move 0", "join 0", "move 1", "use 0", "join 1", "move 2", "use 1", "join 2", "use 2",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_no_batch_is_lost_or_given_twice(count):
    got = [int(b["index"][0]) for b in prefetched(numbered(count), lambda b: b, RecordedSide())]
    assert got == list(range(count))


def test_errors_of_the_host_pass_through():
    def failing():
        yield from numbered(1)
        raise DataError("bad.jpg: the file is empty")

    batches = prefetched(failing(), lambda batch: batch, RecordedSide())
    with pytest.raises(DataError, match=r"bad\.jpg"):
        list(batches)


def test_loader_moves_ahead_and_counts_what_it_gave(table):
    rows = EpochBatches(lambda _: np.arange(len(table)), len(table), 4)
    moved = []
    loader = FrameLoader(
        FrameDataset(table, SIZE),
        rows,
        move=lambda batch: moved.append(batch["index"].tolist()) or to_device(batch, CPU, SIZE),
        side=RecordedSide(),
    )
    for number, batch in enumerate(loader, start=1):
        assert loader.state_dict() == {"epoch": 0, "given": number}
        assert len(moved) == min(number + 1, len(loader))
        assert set(batch) == {"frames", "labels", "index"}
    assert list(chain(*moved)) == list(range(len(table)))


def test_loader_goes_on_after_the_batches_given_before(table):
    def loader():
        rows = EpochBatches(lambda epoch: np.arange(len(table)) + 0 * epoch, len(table), 4)
        return FrameLoader(FrameDataset(table, SIZE), rows)

    first = loader()
    iterator = iter(first)
    before = [next(iterator)["index"].tolist() for _ in range(2)]
    second = loader()
    second.load_state_dict(first.state_dict())
    after = [batch["index"].tolist() for batch in second]
    assert [*before, *after] == [batch["index"].tolist() for batch in loader()]
    assert len(list(second)) == len(second)  # what follows is whole again
    third = loader()
    third.load_state_dict({"epoch": 0, "given": 2})
    third.batches.set_epoch(1)  # the checkpoint was of an epoch that ended early
    assert len(list(third)) == len(third)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_share_an_epoch_without_overlap(world_size, drop_last):
    size = 2 * world_size
    shares = [
        np.concatenate(list(EpochBatches(lambda _: np.arange(17), 17, size, drop_last, rank, world_size)))
        for rank in range(world_size)
    ]
    together = np.concatenate(shares).tolist()
    assert len(together) == len(set(together))
    if drop_last:
        assert len({len(share) for share in shares}) == 1
    else:
        assert sorted(together) == list(range(17))


def test_files_decoded_by_torchvision_equal_those_of_the_host(table):
    rows = [5, 0, 11, 3]
    host = FrameDataset(table, SIZE).__getitems__(rows)
    encoded = FrameDataset(table, SIZE, encoded=True).__getitems__(rows)
    assert "frames" not in encoded
    there = to_device(encoded, CPU, SIZE)
    assert set(there) == {"frames", "labels", "index", "skipped"}
    difference = (there["frames"].int() - host["frames"].int()).abs()
    assert difference.max() <= 2
    assert there["frames"].is_contiguous()
    assert torch.equal(there["labels"], host["labels"])


@pytest.mark.parametrize("encoded", [False, True])
def test_bad_pictures_are_skipped_even_where_a_batch_has_no_other(encoded, tmp_path):
    table = read_affwild2(write_affwild2(tmp_path, size=SIZE))["train"]
    table.source.path(2).write_bytes(b"")
    with pytest.raises(DataError, match=r"00003\.jpg"):
        FrameDataset(table, SIZE, encoded=encoded).__getitems__([1, 2, 3])
    dataset = FrameDataset(table, SIZE, on_bad="skip", encoded=encoded)
    batch = to_device(dataset.__getitems__([1, 2, 3]), CPU, SIZE)
    assert batch["skipped"].tolist() == [2]
    assert batch["labels"].tolist() == [table.labels[1].tolist(), [-1] * 12, table.labels[3].tolist()]
    assert torch.equal(batch["frames"][1], batch["frames"][0])
    alone = to_device(dataset.__getitems__([2]), CPU, SIZE)
    assert (alone["labels"] == -1).all()
    assert alone["frames"].shape == (1, SIZE, SIZE, 3)
    assert alone["frames"].max() <= 2


def test_pictures_that_the_device_cannot_decode_are_said_so():
    files = [b"\xff\xd8 no picture", b"\xff\xd8 none"]
    encoded = torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8)
    with pytest.raises(DataError, match=r"data\.decode=cpu names the file"):
        decode_frames(encoded, torch.tensor([0, len(files[0]), len(encoded)]), CPU, SIZE)


def test_pictures_of_another_size_are_refused_on_the_device_too(table):
    batch = FrameDataset(table, SIZE, encoded=True).__getitems__([0, 1])
    with pytest.raises(DataError, match=rf"\({SIZE}, {SIZE}\).*data.image_size says 24"):
        to_device(batch, CPU, 24)


def test_decoding_on_a_gpu_needs_one(table, tmp_path):
    module = FrameDataModule(
        "x", tmp_path, lambda **_: {"train": table, "val": table}, AFFWILD2, 4, image_size=SIZE, decode="cuda"
    )
    module.setup("fit")
    with pytest.raises(DataError, match=r"data\.decode=cuda needs a CUDA device"):
        module.train_dataloader()
    with pytest.raises(DataError, match=r"data\.decode=gpu must be cpu or cuda"):
        FrameDataModule("x", tmp_path, dict, AFFWILD2, 4, decode="gpu")
    with pytest.raises(DataError, match=r"data\.resize=true needs data.decode=cpu"):
        FrameDataModule("x", tmp_path, dict, AFFWILD2, 4, decode="cuda", resize=True)


@cuda
@pytest.mark.parametrize("encoded", [False, True])
def test_batches_on_cuda_equal_those_of_the_host(table, encoded):
    device = torch.device("cuda")
    rows = EpochBatches(lambda _: np.arange(len(table)), len(table), 4)
    loader = FrameLoader(
        FrameDataset(table, SIZE, encoded=encoded),
        rows,
        move=lambda batch: to_device(batch, device, SIZE),
        side=CudaSide(device),
    )
    for batch in loader:
        host = FrameDataset(table, SIZE).__getitems__(batch["index"].tolist())
        assert batch["frames"].is_cuda
        assert (batch["frames"].cpu().int() - host["frames"].int()).abs().max() <= (3 if encoded else 0)
        assert torch.equal(batch["labels"].cpu(), host["labels"])
