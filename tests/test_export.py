"""Exported files give what the network gives, say what they are, and are not there if they do not."""

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from aunet.attention import AveragePool
from aunet.cli import main
from aunet.config import CONF, compose
from aunet.data.faults import DataError
from aunet.export import ExportError, export
from aunet.export.check import check_parity
from aunet.export.detector import Detector, trace
from aunet.network import AULinear, AUNet, linear_classifier
from aunet.runs import RunError
from aunet.train import train
from aunet.trained import load

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")
import onnx  # noqa: E402

from aunet.export import onnx_file  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = "backbone.filters=[4,6,8,8,10,10]"
NETWORKS = {path.stem: () for path in sorted(CONF.glob("backbone/*.yaml"))} | {
    "convnet": (SMALL,),
    "convnet_7x7": (SMALL, "attention=per_au", "classifier=vgg", "classifier.hidden=[8]"),
    "convnet_ceil_last": (SMALL, "attention=none"),
    "convnet_glamor": (SMALL, "attention=flatten"),
    "convnet_literal_floor": (SMALL,),
    "vgg16": ("attention=none", "classifier=vgg", "classifier.hidden=[16,16]"),
}
"""Backbone -> what else its network is made of: together all kinds of aggregators and classifiers."""
SIZES = {"inception_v3": 80, "vgg16": 64, "resnet50": 64, "efficientnet": 64}


def network(*overrides: str) -> AUNet:
    """A network in evaluation mode whose running statistics, means and shifts are not those of the start."""
    cfg = compose(["data=affwild2", "data.root=nowhere", "weights=none", "bn_momentum=0.1", *overrides])
    torch.manual_seed(0)
    built = instantiate(cfg.model, _convert_="all").network.eval()
    for module in built.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():  # logits of a size that training gives
        spread = built(torch.from_numpy(crops(4, cfg.data.image_size)).permute(0, 3, 1, 2)).std()
        last = [module for module in built.classifier.modules() if isinstance(module, AULinear)][-1]
        last.weight /= spread
    return built


def crops(number=3, size=112, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, size, size, 3), np.uint8)


def expected(net, frames):
    """Probabilities, and maps of a network that attends, by its own ways."""
    with torch.no_grad():
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
        found = [net(pixels).sigmoid().numpy()]
        if hasattr(net.attention, "weights"):
            found.append(net.attention.weights(net.features(pixels)).numpy())
    return found


@pytest.fixture(scope="module")
def run(affwild2, tmp_path_factory):
    """A finished run of a small network on the tiny data; not to be changed."""
    cfg = compose(
        [
            *(
                "experiment=table1/ours",
                "data=affwild2",
                f"data.root={affwild2}",
                "weights=none",
                "logger=none",
            ),
            *(f"runs={tmp_path_factory.mktemp('runs')}", "progress=false", "host.threads=1"),
            *("host.keep_large_blocks=false", "batch_size=4", "bn_momentum=0.1", "epochs=1", SMALL),
        ]
    )
    train(cfg)
    return Path(cfg.out_dir)


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    """The run's network in all three kinds of files."""
    folder = tmp_path_factory.mktemp("files")
    return {
        "onnx": export(run, folder / "floats.onnx", data=None),
        "int8": export(run, folder / "model.int8.onnx", int8=True, largest_drop=1),
        "torch": export(run, folder / "model.pt2", "torch"),
    }


def metadata(file: Path) -> dict:
    return {entry.key: json.loads(entry.value) for entry in onnx.load(file).metadata_props}


# --- the network that is exported


@pytest.mark.parametrize("backbone", NETWORKS)
def test_a_network_is_folded_and_gives_the_same_in_torch_and_in_onnx_runtime(backbone, tmp_path):
    size = SIZES.get(backbone, 112)
    net = network(f"backbone={backbone}", f"data.image_size={size}", *NETWORKS[backbone])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    detector = Detector(net, size)
    assert not [m for m in detector.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert (detector.std == 1).all()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    onnx_file.write(onnx_file.convert(trace(detector, size), detector.attends), tmp_path / "x.onnx", {})
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["probabilities", "attention"][: len(expected(net, crops(1, size)))]
    for number in (1, 3):
        frames = crops(number, size)
        with torch.no_grad():
            folded = [output.numpy() for output in detector(torch.from_numpy(frames))]
        found = session.run(None, {"frames": frames})
        for by_torch, by_onnx, value in zip(folded, found, expected(net, frames), strict=True):
            assert by_torch.shape == by_onnx.shape == value.shape
            np.testing.assert_allclose(by_torch, value, atol=1e-5)
            np.testing.assert_allclose(by_onnx, value, atol=1e-5)


class BetweenNorm(nn.Sequential):
    """A backbone whose normalisations must not be folded, and whose first layer is no convolution."""

    num_features, mean, std, frozen, pretrained = 5, (9.0, 8.0, 7.0), (2.0, 3.0, 4.0), False, False

    def __init__(self):
        super().__init__(
            nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3, stride=8), nn.ReLU(inplace=True), nn.BatchNorm2d(5)
        )


def test_what_cannot_be_folded_stays():
    torch.manual_seed(0)
    net = AUNet(BetweenNorm(), AveragePool, linear_classifier, 4).eval()
    for norm in (net.backbone[0], net.backbone[3]):
        nn.init.normal_(norm.bias)
    detector = Detector(net, 112)
    assert len([m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]) == 2
    frames = crops()
    with torch.no_grad():
        (found,) = detector(torch.from_numpy(frames))
    np.testing.assert_allclose(found.numpy(), expected(net, frames)[0], atol=1e-5)


# --- the files


def test_onnx_file_is_described_and_takes_any_number_of_crops(files, run):
    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("frames", "tensor(uint8)", ["batch", 112, 112, 3])
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert shapes == {"probabilities": ["batch", 12], "attention": ["batch", 2, 2]}
    frames = crops(5)
    probabilities, maps = session.run(None, {"frames": frames})
    np.testing.assert_allclose(probabilities, expected(load(run).network, frames)[0], atol=1e-5)
    np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)
    assert b"site-packages" not in files["onnx"].read_bytes()  # nothing of this machine


def test_metadata_say_what_a_user_has_to_know(files, run):
    recorded = json.loads((run / "metrics.json").read_text())
    for file in (files["onnx"], files["int8"]):
        about = metadata(file)
        assert about["aus"] == [f"AU{au}" for au in recorded["aus"]]
        assert about["au_names"][0] == "inner brow raiser"
        assert (about["crop_size"], about["colour"], len(about["template"])) == (112, "RGB", 5)
        assert about["template"][0] == [38.29, 51.7]
        assert about["data_fingerprint"] == recorded["data_fingerprint"]
        assert about["recipe_digest"] == recorded["recipe_digest"]
        assert about["rendered_only"] is False
        assert set(about["tuned_thresholds"]) == set(about["aus"])
        assert about["file"] == file.name
    assert metadata(files["onnx"])["parity"] <= 1e-5
    assert metadata(files["onnx"])["parity_on_real_frames"] is False
    assert "parity" not in metadata(files["int8"])  # which was that of another file


def test_torch_file_gives_the_same_and_has_the_same_metadata(files, run):
    extra = {"metadata.json": ""}
    program = torch.export.load(files["torch"], extra_files=extra).module()
    about, other = json.loads(extra["metadata.json"]), metadata(files["onnx"])
    own = {"form", "file", "parity"}
    assert {key: about[key] for key in about.keys() - own} == {key: other[key] for key in other.keys() - own}
    for number in (1, 5):
        found = program(torch.from_numpy(crops(number)))
        for one, value in zip(found, expected(load(run).network, crops(number)), strict=True):
            np.testing.assert_allclose(one.detach().numpy(), value, atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_the_card_beside_a_file_tells_how_to_load_it(files, kind):
    """As it stands there, in a process that cannot have aunet."""
    file = files[kind]
    (code,) = re.findall(r"```python\n(.*?)```", file.with_name(f"{file.name}.md").read_text(), re.DOTALL)
    library = "torch" if kind == "torch" else "numpy"
    before = (
        "import sys\nsys.modules['aunet'] = None\n"
        f"import {library}\ncrops = {library}.zeros((2, 112, 112, 3), dtype={library}.uint8)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", before + code], cwd=file.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'AU1': " in done.stdout


def test_int8_computes_in_integers_from_the_bytes_on(files):
    kinds = [node.op_type for node in onnx.load(files["int8"]).graph.node]
    floats = [node.op_type for node in onnx.load(files["onnx"]).graph.node]
    assert "Cast" not in kinds
    assert kinds.count("Conv") == floats.count("Conv") == 6
    nodes = onnx.load(files["int8"]).graph.node
    made = {output: node.op_type for node in nodes for output in node.output}
    for node in nodes:
        if node.op_type in ("Conv", "MaxPool"):
            assert {made.get(name) for name in node.input} == {"DequantizeLinear"}
    assert kinds.count("Sigmoid") == kinds.count("Softmax") == 1


def test_int8_file_is_near_the_network(files, run):
    session = onnxruntime.InferenceSession(files["int8"], providers=["CPUExecutionProvider"])
    frames = crops(5)
    difference = np.abs(session.run(None, {"frames": frames})[0] - expected(load(run).network, frames)[0])
    assert 0 < difference.max() < 0.1


def test_int8_has_both_figures(files, run):
    about = metadata(files["int8"])
    recorded = json.loads((run / "metrics.json").read_text())
    assert about["val_f1_floats"] == pytest.approx(recorded["val/f1"], abs=1e-9)
    assert 0 <= about["val_f1_int8"] <= 1
    card = files["int8"].with_name(f"{files['int8'].name}.md").read_text()
    assert f"{about['val_f1_int8']:.4f}" in card
    assert f"{about['val_f1_floats']:.4f}" in card


def test_int8_that_costs_too_much_is_refused_with_both_figures(run, tmp_path):
    with pytest.raises(ExportError, match=r"F1 falls from 0\.\d{4} to 0\.\d{4}, by more than -1"):
        export(run, tmp_path / "x.onnx", int8=True, largest_drop=-1)
    assert not list(tmp_path.iterdir())


# --- errors: no file, one sentence


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_a_file_that_differs_from_the_network_is_not_written(run, tmp_path, monkeypatch, form):
    class Wrong(Detector):
        def forward(self, frames):
            probabilities, *maps = super().forward(frames)
            return (probabilities * 0.9999, *maps)

    monkeypatch.setattr("aunet.export.Detector", Wrong)
    target = tmp_path / ("x.onnx" if form == "onnx" else "x.pt2")
    target.write_text("an earlier file")
    with pytest.raises(ExportError, match=r"differ from the network's by .*more than 1e-05"):
        export(run, target, form)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "an earlier file"


def test_a_network_that_no_graph_can_hold_is_named(run, tmp_path, monkeypatch):
    class Wayward(Detector):
        def forward(self, frames):
            return super().forward(frames[: int(frames.sum())])

    monkeypatch.setattr("aunet.export.Detector", Wayward)
    with pytest.raises(ExportError, match=r"torch\.export cannot follow the network: "):
        export(run, tmp_path / "x.pt2", "torch")
    assert not list(tmp_path.iterdir())


def test_maps_that_differ_are_told_as_such(run, monkeypatch, tmp_path):
    class Wrong(Detector):
        def forward(self, frames):
            probabilities, maps = super().forward(frames)
            return probabilities, maps + 2e-5

    monkeypatch.setattr("aunet.export.Detector", Wrong)
    with pytest.raises(ExportError, match=r"the file's attention maps differ from the network's by 2e-05"):
        export(run, tmp_path / "x.pt2", "torch")


def test_no_number_is_no_parity(run):
    network = load(run).network

    def file(frames):
        probabilities, maps = expected(network, frames)
        return probabilities, maps if len(frames) == 1 else np.full_like(maps, np.nan)

    with pytest.raises(ExportError, match="attention maps differ from the network's by nan"):
        check_parity(file, network, 112, None)


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
def test_a_full_disk_is_told(run, tmp_path, name):
    """For which files that may not grow any further stand."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=rf"File too large: '{tmp_path / name}'"):
            export(run, tmp_path / name, "onnx" if name == "x.onnx" else "torch")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.setattr("aunet.export.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ExportError, match=r"need onnxscript: pip install 'aunet\[export\]'"):
        export(run, tmp_path / "x.onnx")


def test_int8_needs_the_data(run, tmp_path, affwild2):
    with pytest.raises(DataError, match=r"missing, the data of .*, is not there"):
        export(run, tmp_path / "x.onnx", int8=True, data=tmp_path / "missing")
    other = tmp_path / "other"
    shutil.copytree(affwild2, other)
    for path in min(other.rglob("*.jpg")).parent.glob("*.jpg"):
        path.unlink()
    with pytest.raises(RunError, match="holds other data"):
        export(run, tmp_path / "x.onnx", int8=True, data=other)
    with pytest.raises(ExportError, match="int8 is for the format onnx"):
        export(run, tmp_path / "x.pt2", "torch", int8=True)
    assert {path.name for path in tmp_path.iterdir()} == {"other"}


@pytest.mark.parametrize(("form", "name"), [("onnx", "x.pt2"), ("torch", "x.onnx"), ("onnx", "x")])
def test_names_that_say_another_kind_of_file_are_refused(run, tmp_path, form, name):
    with pytest.raises(ExportError, match=f"{name}: the file's name has to end with"):
        export(run, tmp_path / name, form)


def test_a_folder_is_not_written_over(run, tmp_path):
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(ExportError, match=r"x\.onnx is a folder: say which file in it"):
        export(run, tmp_path / "x.onnx")


def test_the_command_writes_file_and_card(run, tmp_path, capsys):
    out = tmp_path / "new folder" / "x.pt2"
    main(["export", str(run), "-o", str(out), "--format", "torch"])
    assert sorted(path.name for path in out.parent.iterdir()) == ["x.pt2", "x.pt2.md"]
    assert str(out) in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export", "card", "demo"])
def test_a_file_is_no_run(run, command):
    with pytest.raises(SystemExit) as caught:
        main([command, str(run / "best.ckpt")])
    assert str(caught.value.code).startswith(f"aunet: {run / 'best.ckpt'} is no finished run")


def test_the_command_refuses_what_is_no_run(tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(["export", str(tmp_path), "-o", str(tmp_path / "x.onnx")])
    assert str(caught.value.code) == f"aunet: {tmp_path} is no finished run: metrics.json is missing"
    assert not list(tmp_path.iterdir())
