"""Run folders: what counts as another run, and damaged files."""

import copy
import json

import pytest
from omegaconf import OmegaConf

import aunet
from aunet import runs
from aunet.files import write_json

CONFIG = {
    "name": "ours",
    "title": "the paper's model",
    "paper_f1": 0.48,
    "reference": "ours",
    "seed": 0,
    "lr": 1e-3,
    "runs": "runs",
    "out_dir": "runs/adhoc/ours/seed0",
    "progress": True,
    "checkpoint_minutes": 15,
    "dynamics_every": 50,
    "log_frames": "auto",
    "sampling": {"stride": 1},
    "augmentation": None,
    "host": {"threads": 2, "tf32": False},
    "logger": {"_target_": "a.Logger", "save_dir": "x"},
    "trainer": {
        "precision": "32-true",
        "default_root_dir": "x",
        "enable_progress_bar": True,
        "devices": 1,
        "strategy": "auto",
    },
    "data": {
        "root": "a",
        "workers": 0,
        "threads": None,
        "on_bad": "error",
        "val_batch_size": 256,
        "prepare": {"seed": 0, "workers": None},
        "aus": [1, 2, 4],
        "read": {"drop_row_if_any": True, "crops": None, "annotations": None, "pictures": None, "file": None},
    },
    "weights": "none",
    "vggface": None,
    "model": {"network": {"num_aus": 3}},
}


def changed(key, value="other"):
    """CONFIG with another value at a dotted key; the key goes away for None."""
    config = copy.deepcopy(CONFIG)
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return config


@pytest.mark.parametrize("key", runs.NO_EFFECT)
def test_keys_without_effect_make_no_other_run(key):
    assert runs.differences(CONFIG, changed(key)) == []
    assert runs.differences(CONFIG, changed(key, None)) == []
    assert runs.config_digest(changed(key)) == runs.config_digest(CONFIG)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lr", 0.01, "lr: 0.001 -> 0.01"),
        ("seed", 1, "seed: 0 -> 1"),
        ("name", "b", 'name: "ours" -> "b"'),
        ("data.aus", [1, 4, 2], "data.aus: [1, 2, 4] -> [1, 4, 2]"),
        ("data.read.drop_row_if_any", False, "data.read.drop_row_if_any: true -> false"),
        ("trainer.precision", "bf16-mixed", 'trainer.precision: "32-true" -> "bf16-mixed"'),
        ("data.rooted", 1, "data.rooted: absent -> 1"),
        ("titles", "x", 'titles: absent -> "x"'),
        ("lr", None, "lr: 0.001 -> absent"),
        ("data.read.drop_row_if_any", None, "data.read.drop_row_if_any: true -> absent"),
    ],
)
def test_all_other_keys_do(key, value, said):
    assert runs.differences(CONFIG, changed(key, value)) == [said]
    assert runs.config_digest(changed(key, value)) != runs.config_digest(CONFIG)


def test_digest_knows_no_order_of_keys():
    backwards = {key: CONFIG[key] for key in reversed(CONFIG)}
    assert runs.config_digest(backwards) == runs.config_digest(CONFIG)
    assert runs.differences(backwards, CONFIG) == []


def test_configuration_survives_its_file(compose, tmp_path):
    cfg = compose("experiment=table1/ours", "lr=1e-10", "lr_after=1e30", "backbone.filters=[4,4,4,4,4,4]")
    config = OmegaConf.to_container(cfg, resolve=True)
    OmegaConf.save(OmegaConf.create(config), tmp_path / "config.yaml")
    again = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    assert runs.differences(config, again) == []
    assert runs.config_digest(config) == runs.config_digest(again)


def test_new_folder_and_unchanged_run_are_accepted(tmp_path):
    runs.check_unchanged(tmp_path, None, CONFIG, "a")
    runs.check_unchanged(tmp_path, CONFIG, changed("data.root"), "a")  # interrupted before provenance.json
    runs.begin(tmp_path, {"data_fingerprint": "a"}, {})
    (tmp_path / "last.ckpt").touch()
    runs.check_unchanged(tmp_path, CONFIG, changed("data.root"), "a")


def test_attempt_without_a_checkpoint_is_no_run_yet(tmp_path):
    runs.begin(tmp_path, {"data_fingerprint": "a"}, {})
    runs.check_unchanged(tmp_path, CONFIG, changed("lr", 0.1), "b")


def test_finished_run_answers_for_its_configuration_even_without_the_file(tmp_path):
    digest = {"config_digest": runs.config_digest(CONFIG), "data_fingerprint": "a"}
    write_json(tmp_path / "metrics.json", digest)
    runs.check_unchanged(tmp_path, CONFIG, CONFIG, "a")
    runs.check_unchanged(tmp_path, None, CONFIG, "a")
    edited = changed("lr", 0.1)
    for old in (None, edited):
        with pytest.raises(runs.RunError, match=r"config_digest: \w+ -> \w+"):
            runs.check_unchanged(tmp_path, old, edited, "a")
    (tmp_path / "metrics.json").rename(tmp_path / "last.ckpt")
    with pytest.raises(runs.RunError, match=r"config\.yaml is missing"):
        runs.check_unchanged(tmp_path, None, CONFIG, "a")
    (tmp_path / "last.ckpt").rename(tmp_path / "metrics.json")
    with pytest.raises(runs.RunError, match="data fingerprint: a -> b"):
        runs.check_unchanged(tmp_path, CONFIG, CONFIG, "b")


def test_seeds_of_a_row_share_a_recipe():
    digest = runs.recipe_digest(CONFIG)
    assert runs.recipe_digest(changed("seed", 1)) == digest
    assert runs.recipe_digest(changed("sweep", "elsewhere")) == digest
    assert runs.recipe_digest(changed("lr", 0.1)) != digest


@pytest.mark.parametrize("checkpoint", ["last.ckpt", "best.ckpt"])
def test_changes_are_refused_and_named(checkpoint, tmp_path):
    (tmp_path / checkpoint).touch()
    runs.begin(tmp_path, {"data_fingerprint": "train:1"}, {})
    with pytest.raises(runs.RunError, match=r"lr: 0\.001 -> 0\.1\. Give this one another place") as caught:
        runs.check_unchanged(tmp_path, CONFIG, changed("lr", 0.1), "train:1")
    assert str(tmp_path) in str(caught.value)
    assert "fingerprint" not in str(caught.value)
    with pytest.raises(runs.RunError, match="data fingerprint: train:1 -> train:2") as caught:
        runs.check_unchanged(tmp_path, CONFIG, changed("title"), "train:2")
    assert "title" not in str(caught.value)
    with pytest.raises(runs.RunError, match=r"seed: 0 -> 1; data fingerprint: train:1 -> train:2"):
        runs.check_unchanged(tmp_path, CONFIG, changed("seed", 1), "train:2")


def test_long_lists_of_changes_stay_readable(tmp_path):
    (tmp_path / "last.ckpt").touch()
    many = CONFIG | {f"key{i:02d}": i for i in range(30)}
    with pytest.raises(runs.RunError) as caught:
        runs.check_unchanged(tmp_path, CONFIG, many, "a")
    assert str(caught.value).count("absent ->") == 12


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, b"{", b'{"val/f1": 0.4', b"\xff\xfe\x00", b"[]", b"null", b"0.4803"],
)
def test_damaged_files_are_named(content, tmp_path):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(runs.RunError, match=r"metrics\.json.*remove the run's folder") as caught:
        runs.read_metrics(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / "provenance.json").write_bytes(content)
    with pytest.raises(runs.RunError, match=r"provenance\.json"):
        runs.begin(tmp_path, {}, {})
    assert (tmp_path / "provenance.json").read_bytes() == content


def test_metrics_are_there_once_the_run_has_finished(tmp_path):
    assert runs.read_metrics(tmp_path) is None
    assert runs.read_metrics(tmp_path / "missing") is None
    write_json(tmp_path / "metrics.json", {"val/f1": 0.5})
    assert runs.read_metrics(tmp_path) == {"val/f1": 0.5}


def test_attempts_accumulate(tmp_path):
    for cores in (2, 8, 4):
        runs.begin(tmp_path, {"data_fingerprint": "a", "splits": {"train": {"frames": 3}}}, {"cores": cores})
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["attempts"] == [{"cores": 2}, {"cores": 8}, {"cores": 4}]
    assert record["aunet"] == aunet.__version__
    assert record["data_fingerprint"] == "a"
    assert record["splits"] == {"train": {"frames": 3}}
    assert record["packages"].keys() >= {"torch", "pytorch-lightning", "numpy"}
    assert all(record["packages"].values())
    assert record["commit"] is None or record["commit"]
    assert [path.name for path in tmp_path.iterdir()] == ["provenance.json"]


def test_code_version_is_none_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    runs.begin(tmp_path, {}, {})
    assert json.loads((tmp_path / "provenance.json").read_text())["commit"] is None
