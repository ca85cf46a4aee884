"""Weight files: what loads, what is refused, and what the refusal says."""

import hashlib
import os
import urllib.error

import pytest
import torch
from torch import nn
from torchvision.models import efficientnet_b0, inception_v3, resnet50

from aunet import backbones
from aunet.backbones import EfficientNetB0, EfficientNetLite0, ResNet50
from aunet.weights import WeightsError, download, load_into, load_state, packaged, verify_hash


def hashed(folder, stem, state):
    """Save a state under a name that carries its hash, as torchvision's files do."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "state.pth")
    digest = hashlib.sha256((folder / "state.pth").read_bytes()).hexdigest()
    return (folder / "state.pth").rename(folder / f"{stem}-{digest[:8]}.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub without a network; gives its folder of weight files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def refuse(url, *_, **__):
        raise urllib.error.URLError("name resolution failed")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "torch home" / "hub" / "checkpoints"


def whole_model(name):
    """Torchvision's state dict of a whole model, classifier and auxiliary outputs included."""
    match name:
        case "ResNet50":
            return resnet50().state_dict()
        case "InceptionV3":
            return inception_v3(aux_logits=True, init_weights=False).state_dict()
        case "EfficientNetB0":
            return efficientnet_b0().state_dict()
        case "VGG16":  # torchvision's classifier of 500 MB made small
            state = backbones.VGG16(weights="none").state_dict()
            state |= {
                f"classifier.{i}.{kind}": torch.zeros(2) for i in (0, 3, 6) for kind in ("weight", "bias")
            }
            return state
    return {**EfficientNetLite0(weights="none").state_dict(), "classifier.1.weight": torch.zeros(2)}


def same(backbone, state):
    return all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["ResNet50", "InceptionV3", "EfficientNetB0", "VGG16"])
def test_imagenet_weights_come_from_torchs_cache(name, hub, monkeypatch):
    state = whole_model(name)
    path = hashed(hub, name.lower(), state)
    backbone = getattr(backbones, name)
    monkeypatch.setattr(backbone, "url", f"https://example.org/models/{path.name}")
    loaded = backbone(weights="imagenet")
    assert loaded.pretrained
    assert same(loaded, state)
    assert not same(backbone(weights="none"), state)


def test_cached_file_with_a_wrong_hash_is_refused(hub):
    hub.mkdir(parents=True)
    name = ResNet50.url.rpartition("/")[2]
    torch.save({}, hub / name)
    with pytest.raises(WeightsError, match=rf"{name}.*damaged.*Delete it"):
        ResNet50()


@pytest.mark.parametrize("name", ["ResNet50", "InceptionV3", "EfficientNetB0", "VGG16"])
def test_offline_says_what_to_do(name, hub):
    backbone = getattr(backbones, name)
    with pytest.raises(WeightsError) as error:
        backbone()
    for part in (
        backbone.url.rpartition("/")[2],
        str(hub),
        "name resolution failed",
        "weights=FILE",
        "weights=none",
    ):
        assert part in str(error.value)


def test_a_broken_download_is_an_error(hub, monkeypatch):
    def broken(url, *_, **__):
        raise RuntimeError('invalid hash value (expected "0676ba61", got "deadbeef")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", broken)
    with pytest.raises(WeightsError, match="invalid hash value"):
        ResNet50()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "file" / "hub"))
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        ResNet50()


def test_download_fetches_once_and_verifies(hub, monkeypatch):
    calls = []

    def fetch(url, target, hash_prefix=None, progress=True):
        calls.append((url, hash_prefix))
        torch.save({"a": torch.ones(1)}, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    url = "https://example.org/net-0123abcd.pth?version=1"
    assert download(url) == download(url) == hub / "net-0123abcd.pth"
    assert calls == [(url, "0123abcd")]
    with pytest.raises(WeightsError, match="damaged"):
        load_state(hub / "net-0123abcd.pth")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("name", ["EfficientNetB0", "EfficientNetLite0"])
def test_file_of_a_whole_model(name, wrapper, tmp_path):
    state = whole_model(name)
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "weights.pt")
    loaded = getattr(backbones, name)(weights=str(tmp_path / "weights.pt"), trainable="none")
    assert loaded.pretrained
    assert same(loaded, state)


def test_own_checkpoint(tmp_path):
    network = nn.ModuleDict({"backbone": EfficientNetLite0(), "classifier": nn.Linear(1280, 12)})
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(12)}, "epoch": 1}, tmp_path / "best.ckpt")
    assert same(EfficientNetLite0(weights=str(tmp_path / "best.ckpt")), network["backbone"].state_dict())


def test_checkpoint_of_another_backbone_is_refused(tmp_path):
    other = backbones.ConvNet().state_dict()
    torch.save({"state_dict": {f"network.backbone.{k}": v for k, v in other.items()}}, tmp_path / "best.ckpt")
    with pytest.raises(
        WeightsError, match=r"best\.ckpt does not fit ResNet50.*missing.*not of this network.*block1"
    ):
        ResNet50(weights=str(tmp_path / "best.ckpt"))


def test_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(efficientnet_b0().state_dict(), tmp_path / "b0.pth")
    assert EfficientNetB0(weights="~/b0.pth").pretrained


def test_a_deeper_network_does_not_pass(tmp_path):
    """EfficientNet-B1 has every tensor of B0 in the same shape, and more."""
    state = efficientnet_b0().state_dict() | {"features.1.1.block.0.0.weight": torch.zeros(16, 1, 3, 3)}
    torch.save(state, tmp_path / "b1.pth")
    with pytest.raises(WeightsError, match=r"1 not of this network: features\.1\.1\.block\.0\.0\.weight"):
        EfficientNetB0(weights=str(tmp_path / "b1.pth"))


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_misfits_are_listed_and_nothing_is_loaded(tmp_path):
    module, state = small(), small().state_dict()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    del state["1.weight"]
    state["0.weight"] = torch.zeros(4, 3, 5, 5)
    state |= {f"9.{i}": torch.zeros(1) for i in range(7)}
    with pytest.raises(WeightsError) as error:
        load_into(module, state, tmp_path / "file.pth")
    for part in (
        str(tmp_path / "file.pth"),
        "1 missing: 1.weight;",
        "7 not of this network: 9.0, 9.1, 9.2, 9.3, 9.4, ...;",
        "0.weight (4, 3, 5, 5) instead of (4, 3, 3, 3)",
    ):
        assert part in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_old_files_may_lack_the_batch_count(tmp_path):
    module, state = small(), small().state_dict()
    del state["1.num_batches_tracked"]
    load_into(module, state, tmp_path / "old.pth")
    assert torch.equal(module[0].weight, state["0.weight"])


@pytest.mark.parametrize("name", ["net-{}.pth", "net-x-{}.pth", "net_{}.pth", "net.pth"])
def test_verify_hash(name, tmp_path):
    digest = hashlib.sha256(b"content").hexdigest()
    good = tmp_path / name.format(digest[:8])
    good.write_bytes(b"content")
    verify_hash(good)
    bad = tmp_path / name.format("0" * 8)
    bad.write_bytes(b"content")
    if "-{}" in name:
        with pytest.raises(WeightsError, match=f"{digest[:8]}.*00000000"):
            verify_hash(bad)
    else:
        verify_hash(bad)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_does_not_run(tmp_path):
    torch.save({"weight": Harmful(tmp_path / "trace")}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth cannot be loaded safely.*mkdir") as error:
        ResNet50(weights=str(tmp_path / "weights.pth"))
    assert "False" not in str(error.value)  # no advice to load it unsafely
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04cut"])
def test_damaged_files(content, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth cannot be loaded safely"):
        load_state(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "content", [[torch.ones(1)], {}, torch.ones(1), {"epoch": 3}, {"state_dict": {"a": 1}}]
)
def test_files_without_a_state(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        load_state(tmp_path / "weights.pth")


def test_missing_file_and_package(tmp_path):
    with pytest.raises(WeightsError, match=r"no weight file .*nowhere\.pth"):
        ResNet50(weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(WeightsError, match=r"file\.pth.*no-such-package.*weights=none"):
        packaged("no_such_package", "models/file.pth", "no-such-package")
    with pytest.raises(WeightsError, match=r"other\.pth"):
        packaged("aunet", "other.pth", "aunet")
