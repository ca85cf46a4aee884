"""Batches on their way from crops to the device: pixels, order, what cannot be read, cached features."""

import json
import shutil
from itertools import chain

import numpy as np
import pytest
import torch
from layouts import default_labels, write_affwild2
from PIL import Image

from aunet.data.affwild2 import read_affwild2
from aunet.data.batches import FrameDataset
from aunet.data.datamodule import FrameDataModule, summary_counts
from aunet.data.faults import DataError
from aunet.data.frames import FrameTable
from aunet.data.sources import CropFiles, Crops
from aunet.facs import AFFWILD2

SIZE = 16


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """18 training and 10 validation frames of 16x16 pixels, not to be changed."""
    return write_affwild2(tmp_path_factory.mktemp("data"), size=SIZE)


@pytest.fixture
def copy(root, tmp_path):
    """The same data, to be changed."""
    return shutil.copytree(root, tmp_path / "copy")


def datamodule(root, **arguments):
    settings = {"batch_size": 4, "workers": 0, "image_size": SIZE, "aus": AFFWILD2} | arguments
    module = FrameDataModule("tiny", root, read_affwild2, **settings)
    module.setup("fit")
    return module


def order(loader, epoch):
    """Indices of an epoch's batches, as Lightning would get them."""
    loader.batches.set_epoch(epoch)
    return [batch["index"].tolist() for batch in loader]


def pillow(table, index):
    with Image.open(table.source.path(index)) as image:
        return np.asarray(image.convert("RGB"))


def test_batches_are_uint8_until_the_device_and_a_view_there(root):
    module = datamodule(root)
    for loader in (module.train_dataloader(), module.val_dataloader()):
        batch = next(iter(loader))
        count = len(batch["index"])
        assert batch["frames"].shape == (count, SIZE, SIZE, 3)
        assert (batch["frames"].dtype, batch["labels"].dtype) == (torch.uint8, torch.int8)
        assert batch["labels"].shape == (count, 12)
        moved = module.on_after_batch_transfer(batch, 0)
        assert moved["frames"].shape == (count, 3, SIZE, SIZE)
        assert moved["frames"].dtype == torch.uint8
        assert moved["frames"].is_contiguous(memory_format=torch.channels_last)
        assert moved["frames"].data_ptr() == batch["frames"].data_ptr()
        assert moved["labels"] is batch["labels"]


def test_pixels_and_labels_are_those_on_disk(root):
    module = datamodule(root)
    for split, loader in (("train", module.train_dataloader()), ("val", module.val_dataloader())):
        table = module.tables[split]
        for batch in loader:
            frames = module.on_after_batch_transfer(batch, 0)["frames"]
            for frame, label, index in zip(frames, batch["labels"], batch["index"], strict=True):
                decoded = frame.permute(1, 2, 0).numpy().astype(int)
                assert np.abs(decoded - pillow(table, int(index))).max() <= 1
                np.testing.assert_array_equal(label.numpy(), table.labels[int(index)])


def test_validation_keeps_the_tables_order(root):
    batches = [batch["index"].tolist() for batch in datamodule(root, val_batch_size=4).val_dataloader()]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert list(chain(*batches)) == list(range(10))


def test_training_order_follows_from_seed_and_epoch_alone(root):
    loader = datamodule(root).train_dataloader()
    epochs = [order(loader, epoch) for epoch in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    assert order(loader, 1) == epochs[1]  # whatever was drawn between
    torch.manual_seed(5)
    assert order(datamodule(root).train_dataloader(), 2) == epochs[2]
    assert order(datamodule(root, seed=1).train_dataloader(), 0) != epochs[0]


def test_workers_change_no_batch(root):
    alone = datamodule(root).train_dataloader()
    with_workers = datamodule(root, workers=2).train_dataloader()
    for epoch in range(2):
        alone.batches.set_epoch(epoch)
        with_workers.batches.set_epoch(epoch)
        for a, b in zip(alone, with_workers, strict=True):
            assert a.keys() == b.keys() == {"frames", "labels", "index"}
            assert all(torch.equal(a[key], b[key]) for key in a)


def test_frames_of_an_epoch_are_all_different(root):
    seen = list(chain(*order(datamodule(root, batch_size=3).train_dataloader(), 0)))
    assert sorted(seen) == list(range(18))


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4] * 4), (9, [9, 9]), (18, [18]), (64, [18])])
def test_last_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one(root, batch_size, sizes):
    loader = datamodule(root, batch_size=batch_size).train_dataloader()
    assert [len(batch["frames"]) for batch in loader] == sizes
    assert len(loader) == len(sizes)


def jpeg(size=(SIZE, SIZE), mode="RGB", **options):
    """Writer of a picture."""

    def write(path):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, **options)

    return write


def cut(part):
    def write(path):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])

    return write


DAMAGES = {
    "wrong size": (jpeg((20, 12)), "20x12 pixels where data.image_size says 16x16"),
    "missing": (lambda path: path.unlink(), "cannot be read"),
    "no file": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "cut in the header": (cut(0.02), "not a readable JPEG"),
    "cut in the picture": (cut(0.9), "not a readable JPEG"),
    "GIF": (jpeg(format="GIF"), "not a readable JPEG, PNG or BMP"),
    "CMYK": (jpeg(mode="CMYK"), "its colours are CMYK"),
    "RGBA": (jpeg(mode="RGBA", format="PNG"), "its colours are RGBA"),
    "cut PNG": (lambda path: (jpeg(format="PNG")(path), cut(0.5)(path)), "not a readable PNG"),
    "text": (lambda path: path.write_text("<html>404</html>" * 50), "not a readable JPEG"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_unusable_crop_is_named(damage, copy):
    module = datamodule(copy)
    write, reason = DAMAGES[damage]
    path = module.tables["val"].source.path(7)
    write(path)
    with pytest.raises(DataError, match=reason) as caught:
        list(module.val_dataloader())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_workers_name_an_unusable_crop_in_one_sentence_too(copy):
    module = datamodule(copy)
    path = module.tables["val"].source.path(3)
    path.write_bytes(b"")
    messages = []
    for workers in (0, 1):
        module.workers = workers
        with pytest.raises(DataError) as caught:
            list(module.val_dataloader())
        messages.append(str(caught.value))
    assert messages[0].startswith(f"{path}: ")
    assert messages[1] == messages[0]


@pytest.mark.parametrize(
    "write",
    [jpeg(mode="L"), jpeg(quality=95, subsampling=0), jpeg(progressive=True)],
    ids=["greyscale", "full chroma", "progressive"],
)
def test_every_kind_of_jpeg_becomes_rgb(write, copy):
    module = datamodule(copy)
    table = module.tables["val"]
    write(table.source.path(0))
    frame = FrameDataset(table, SIZE).__getitems__([0])["frames"][0].numpy()
    assert frame.shape == (SIZE, SIZE, 3)
    assert np.abs(frame.astype(int) - pillow(table, 0)).max() <= 1


def test_cached_features_equal_direct_extraction(root, tmp_path):
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 5, 4, stride=4).eval()
    seen = []

    def extract(frames):
        seen.append(len(frames))
        return convolution(frames.float() / 255)

    module = datamodule(root, val_batch_size=4)
    module.cache_features(extract, torch.device("cpu"), tmp_path / "features")
    assert sum(seen) == 18 + 10
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["train.npy", "val.npy"]
    direct = datamodule(root)
    for split, loader in (("train", module.train_dataloader()), ("val", module.val_dataloader())):
        dataset = FrameDataset(direct.tables[split], SIZE)
        for batch in loader:
            assert batch.keys() == {"features", "labels", "index"}
            assert batch["features"].shape[1:] == (5, 4, 4)
            assert batch["features"].dtype == torch.float32
            assert module.on_after_batch_transfer(batch, 0) is batch
            expected = dataset.__getitems__(batch["index"].tolist())
            torch.testing.assert_close(batch["labels"], expected["labels"])
            with torch.inference_mode():
                maps = extract(expected["frames"].permute(0, 3, 1, 2))
            torch.testing.assert_close(batch["features"], maps, rtol=1e-5, atol=1e-6)
    assert order(module.train_dataloader(), 3) == order(direct.train_dataloader(), 3)


def test_fingerprint_is_of_the_data_not_of_their_place(root, copy, tmp_path):
    original = datamodule(root).fingerprint()
    assert datamodule(copy).fingerprint() == original
    assert datamodule(root, batch_size=2, seed=7).fingerprint() == original
    other_spelling = write_affwild2(tmp_path / "other", size=SIZE, spelling="abaw2")
    assert datamodule(other_spelling).fingerprint() == original


def test_fingerprint_sees_one_label_and_one_picture(root, copy, tmp_path):
    original = datamodule(root).fingerprint()
    jpeg()(datamodule(copy).tables["train"].source.path(5))
    assert datamodule(copy).fingerprint() != original
    labels = default_labels()
    labels["val"] = {video: rows.copy() for video, rows in labels["val"].items()}
    next(iter(labels["val"].values()))[2, 3] ^= 1
    crops = datamodule(root).tables["train"].source.crops[0].folder.parent.name
    relabelled = write_affwild2(tmp_path / "relabelled", size=SIZE, labels=labels)
    shutil.rmtree(relabelled / crops)
    shutil.copytree(root / crops, relabelled / crops)
    changed = datamodule(relabelled).fingerprint()
    assert changed.split("-")[0] == original.split("-")[0]
    assert changed != original
    assert datamodule(root, aus=AFFWILD2[::-1]).fingerprint() != original


def hand_written(tmp_path):
    """Two videos' table with unknown labels."""
    video, frame = np.array([0, 0, 1, 1], np.int32), np.array([1, 2, 1, 2], np.int32)
    table = FrameTable(
        aus=(1, 2, 4),
        videos=("a", "b"),
        groups=("a", "b"),
        video=video,
        frame=frame,
        source=CropFiles([Crops(tmp_path / "a"), Crops(tmp_path / "b")], video, frame),
        labels=np.array([[1, 0, -1], [1, -1, -1], [0, 0, -1], [1, 1, 0]], np.int8),
        dropped={"labels without crop": 2},
    )
    return {"train": table, "val": table}


def test_training_counts_leave_unknown_labels_out(tmp_path):
    module = FrameDataModule("x", tmp_path, lambda **_: hand_written(tmp_path), (1, 2, 4), 2)
    module.setup("fit")
    positives, known = module.training_counts()
    assert positives.tolist() == [3, 1, 0]
    assert known.tolist() == [4, 3, 1]


def test_counts_of_a_runs_record(tmp_path):
    counts = summary_counts(hand_written(tmp_path))
    assert json.loads(json.dumps(counts)) == counts
    assert counts["val"] == {
        "videos": 2,
        "frames": 4,
        "positives": [3, 1, 0],
        "known": [4, 3, 1],
        "left_out": {"labels without crop": 2},
    }


def test_data_are_made_once_asked_for_and_read_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="aunet")
    made, asked = [], []

    def read(**arguments):
        asked.append(arguments)
        return hand_written(tmp_path)

    module = FrameDataModule("x", str(tmp_path), read, [1, 2, 4], 2, prepare=lambda out: made.append(out))
    module.prepare_data()
    assert made == [tmp_path]
    module.setup("fit")
    module.setup("validate")
    (call,) = asked
    assert (call["root"], call["aus"]) == (tmp_path, (1, 2, 4))
    assert "train: 2 videos, 4 frames; left out: 2 labels without crop" in caplog.text
    FrameDataModule("x", tmp_path, read, [1], 2).prepare_data()  # nothing to make


def test_workers_and_threads_by_default(monkeypatch, tmp_path):
    """On a CPU all cores decode in the training process; beside a GPU workers of one thread each."""

    def chosen(cores, cuda, **arguments):
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        module = FrameDataModule("x", tmp_path, dict, [1], 2, **arguments)
        return module.workers, module.threads

    assert [chosen(cores, False) for cores in (1, 4, 32)] == [(0, 1), (0, 4), (0, 32)]
    assert [chosen(cores, True) for cores in (2, 32)] == [(2, 1), (8, 1)]
    assert chosen(4, True, workers=0) == (0, 4)
    assert chosen(4, False, workers=3, threads=2) == (3, 2)


def test_single_frames_are_those_of_the_table(root):
    module = datamodule(root)
    rows = [4, 0, 4]
    frames = module.frames("val", rows)
    assert frames.dtype == np.uint8
    for frame, row in zip(frames, rows, strict=True):
        assert np.abs(frame.astype(int) - pillow(module.tables["val"], row)).max() <= 1
