"""What holds for every reader: it is recognised, checks, packs, and a store gives the same frames."""

import shutil

import numpy as np
import pytest
import torch
from layouts import (
    SPELLINGS,
    as_lists,
    bp4d_codes,
    disfa_intensities,
    write_affwild2,
    write_bp4d,
    write_disfa,
    write_manifest,
)

from aunet.cli import main
from aunet.config import data_module
from aunet.data.check import check_data
from aunet.data.detect import detect
from aunet.data.folds import BP4D_PARTS, DISFA_PARTS, fold_splits

SIZE = 16


def few(parts):
    """Two training subjects, and one for each other split."""
    splits = fold_splits(parts, 1)
    return [
        s for name in ("train", "val", "test") for s in sorted(s for s in splits if splits[s] == name)[:2]
    ]


def manifest(root, name):
    rng = np.random.default_rng(1)
    rows = [
        {"path": f"{who}/{number:03}.jpg", "subject": who, "AU1": rng.integers(2), "AU12": rng.integers(2)}
        for who in ("anna", "ben", "cleo", "dora")
        for number in range(4)
    ]
    write_manifest(root, rows, name=name, size=SIZE)
    return root / name


def mixed(root):
    write_affwild2(root / "affwild2", size=SIZE)
    write_disfa(root / "disfa", disfa_intensities(subjects=few(DISFA_PARTS)), size=SIZE)
    write_bp4d(root / "bp4d", bp4d_codes(tasks=1, subjects=few(BP4D_PARTS)), size=SIZE)
    return root


MANIFEST = ("data.aus=[1,12]", "num_aus=2", "data.read.val_fraction=0.25")
WRITERS = {
    "affwild2": (
        lambda root: write_affwild2(root, size=SIZE, traps=["missing_crop", "unknown_row", "people"]),
        (),
    ),
    "affwild2 in lists": (
        lambda root: as_lists(write_affwild2(root, size=SIZE, decoys=False), SPELLINGS["abaw3"].annotations),
        (),
    ),
    "disfa": (lambda root: write_disfa(root, disfa_intensities(subjects=few(DISFA_PARTS)), size=SIZE), ()),
    "bp4d": (lambda root: write_bp4d(root, bp4d_codes(tasks=2, subjects=few(BP4D_PARTS)), size=SIZE), ()),
    "manifest": (lambda root: manifest(root, "manifest.csv"), MANIFEST),
    "manifest of another name": (lambda root: manifest(root, "faces.csv"), MANIFEST),
    "manifest in Parquet": (lambda root: manifest(root, "manifest.parquet"), MANIFEST),
    "mixed": (mixed, ()),
}


@pytest.fixture(scope="module", params=WRITERS)
def data_set(request, tmp_path_factory):
    """(name of the configuration, place, overrides); not to be changed."""
    write, overrides = WRITERS[request.param]
    place = write(tmp_path_factory.mktemp("data") / "set")
    return request.param.split()[0], place, (*overrides, f"data.image_size={SIZE}", "data.batch_size=4")


def module_of(data_set, place=None, *more):
    name, there, overrides = data_set
    module = data_module(place or there, name, [*overrides, *more])
    module.setup("fit")
    return module


def test_it_is_recognised_by_what_is_there(data_set):
    name, place, _ = data_set
    if name != "mixed":  # which sets are mixed, and where they lie, is for the user to say
        assert detect(place) == name
        if place.name.startswith("manifest"):
            assert detect(place.parent) == name


def test_it_has_training_and_validation_frames_of_different_people(data_set):
    tables = module_of(data_set).tables
    assert {"train", "val"} <= set(tables) <= {"train", "val", "test"}
    groups = [set(table.groups) for table in tables.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    for table in tables.values():
        assert len(table)
        assert (np.diff(table.video) >= 0).all()
        assert table.labels.min() >= -1
        assert table.labels.max() <= 1


def test_it_checks_without_an_error(data_set):
    module = module_of(data_set)
    report = check_data(
        module.root, lambda faults: module.read(root=module.root, aus=module.aus, faults=faults), SIZE
    )
    assert not report.faults.of("error"), report.as_text()
    assert {split: entry["frames"] for split, entry in report.splits.items()} == {
        split: len(table) for split, table in module.tables.items()
    }


@pytest.mark.parametrize("decoded", [False, True])
def test_a_store_gives_the_same_frames_and_labels(data_set, decoded, tmp_path, capsys):
    name, place, overrides = data_set
    store = tmp_path / "store"
    command = ["data", "pack", str(place), *overrides, "--data", name, "--out", str(store)]
    main([*command, *(["--decoded"] if decoded else [])])
    assert f"train on it by data.root={store}" in capsys.readouterr().out
    if name != "mixed":
        assert detect(store) == name
    files, packed = module_of(data_set), module_of(data_set, store)
    assert packed.fingerprint() == files.fingerprint()
    assert packed.tables.keys() == files.tables.keys()
    for split in files.tables:
        assert packed.tables[split].people() == files.tables[split].people()
        pairs = zip(*(m.batches(split, torch.device("cpu"), 5) for m in (files, packed)), strict=True)
        for one, other in pairs:
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(store), "--data", name, *overrides])
    assert stopped.value.code in (0, 1)


def test_packing_again_and_packing_a_store_say_so(tmp_path, capsys):
    place = WRITERS["manifest"][0](tmp_path / "set")
    command = ["data", "pack", str(place), *MANIFEST, f"data.image_size={SIZE}"]
    main(command)
    main(command)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{place}.packed is complete: train on it by data.root={place}.packed"
    assert said[1].startswith(f"{place}.packed was complete before")
    with pytest.raises(SystemExit) as stopped:
        main(["data", "pack", f"{place}.packed"])
    assert "is a store: give the data set" in str(stopped.value.code)


def test_pack_refuses_bad_pictures_unless_told_to_skip(tmp_path, capsys):
    root = write_affwild2(tmp_path / "set", size=SIZE)
    bad = min(root.rglob("cropped_aligned/*/*.jpg"))
    bad.write_bytes(bad.read_bytes()[:100])
    command = ["data", "pack", str(root), f"data.image_size={SIZE}"]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert str(stopped.value.code).startswith(f"aunet: {bad}: ")
    main([*command, "data.on_bad=skip"])
    table = data_module(f"{root}.packed", None, [f"data.image_size={SIZE}"]).read_tables(None)["train"]
    assert len(table) == 17
    assert "1 pictures at fault (skipped)" in table.summary("train")


@pytest.mark.parametrize(("size", "resize"), [(SIZE, False), (24, True)])
def test_pictures_of_other_sizes_are_resampled_if_so_asked(size, resize, tmp_path):
    from PIL import Image

    root = write_affwild2(tmp_path, size=SIZE)
    module = data_module(
        root, None, [f"data.image_size={size}", f"data.resize={resize}", "data.batch_size=4"]
    )
    module.setup("fit")
    batch = next(iter(module.batches("val", torch.device("cpu"))))
    assert batch["frames"].shape[2:] == (size, size)
    with Image.open(module.tables["val"].source.path(3)) as image:
        expected = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR), int)
    assert np.abs(batch["frames"][3].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


def test_a_store_beside_the_pictures_of_its_manifest_is_not_stale(tmp_path, capsys):
    """Where `aunet data pack faces.csv` puts it: in the folder that holds the pictures, too."""
    rows = [{"path": f"{i}.jpg", "subject": f"s{i % 4}", "AU1": i % 2, "AU12": 0} for i in range(8)]
    write_manifest(tmp_path, rows, name="faces.csv", size=SIZE)
    command = ["data", "pack", str(tmp_path / "faces.csv"), *MANIFEST, f"data.image_size={SIZE}"]
    main(command)
    module = data_module(tmp_path / "faces.csv.packed", None, [*MANIFEST, f"data.image_size={SIZE}"])
    assert sum(map(len, module.read_tables(None).values())) == 8
    main(command)
    assert "was complete before" in capsys.readouterr().out.splitlines()[-1]


def test_a_store_of_a_manifest_outlives_it_and_moves(tmp_path):
    place = WRITERS["manifest"][0](tmp_path / "set")
    main(["data", "pack", str(place), *MANIFEST, f"data.image_size={SIZE}", "--out", str(tmp_path / "store")])
    shutil.rmtree(tmp_path / "set")
    moved = (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert len(data_module(moved, None, [*MANIFEST, f"data.image_size={SIZE}"]).read_tables(None)["val"]) == 4
