"""Every backbone keeps the contract; every configuration builds; the weights see the pixels they expect."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F
from torchvision.models import (
    EfficientNet_B0_Weights,
    Inception_V3_Weights,
    ResNet50_Weights,
    VGG16_Weights,
    inception_v3,
    resnet50,
)
from torchvision.models.inception import Inception3
from torchvision.transforms.v2 import functional as transform

from aunet import backbones
from aunet.backbones import IMAGENET_MEAN, IMAGENET_STD, ConvNet, EfficientNetLite0, InceptionV3, ResNet50
from aunet.train import train
from aunet.trained import load
from aunet.weights import load_state

CONF = Path(__file__).parents[1] / "conf" / "backbone"
EXPECTED = {  # configuration: channels and side of the map from 112 pixels
    "convnet": (256, 2),
    "convnet_literal_floor": (256, 1),
    "convnet_glamor": (256, 3),
    "convnet_ceil_last": (256, 4),
    "convnet_7x7": (256, 7),
    "resnet50": (2048, 4),
    "inception_v3": (2048, 2),
    "efficientnet": (1280, 4),
    "efficientnet_lite0": (1280, 4),
    "vgg16": (512, 3),
}


def build(name, **overrides):
    """Instantiate a configuration as Hydra does, from scratch unless told otherwise."""
    root = OmegaConf.create(
        {
            "weights": "none",
            "vggface": None,
            "bn_momentum": 0.1,
            "backbone": OmegaConf.load(CONF / f"{name}.yaml"),
        }
    )
    if "weights" in root.backbone:
        root.backbone.weights = "none"
    root.backbone.update(overrides)
    return instantiate(root.backbone, _convert_="all")


def running_statistics(backbone):
    return {key: value.clone() for key, value in backbone.named_buffers()}


def test_every_configuration_is_tested():
    assert {path.stem for path in CONF.glob("*.yaml")} == EXPECTED.keys()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_contract(name):
    trainable = {} if name.startswith("convnet") else {"trainable": "all"}
    backbone = build(name, **trainable)
    channels, side = EXPECTED[name]
    assert isinstance(backbone, backbones.Backbone)
    assert backbone.num_features == channels
    assert not backbone.pretrained
    assert not backbone.frozen
    for statistics in (backbone.mean, backbone.std):
        assert isinstance(statistics, tuple)
        assert len(statistics) == 3
        assert all(isinstance(value, float) and 0 <= value <= 255 for value in statistics)
    frames = torch.randn(2, 3, 112, 112)
    features = backbone.train()(frames)
    assert features.shape == (2, channels, side, side)
    features.square().mean().backward()
    for parameter in backbone.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    with torch.no_grad():
        features = backbone.eval()(frames)
        assert features.shape == (2, channels, side, side)
        assert features.isfinite().all()
        alone = backbone(frames[:1])  # images do not see one another in evaluation
        torch.testing.assert_close(alone, features[:1], rtol=1e-3, atol=1e-3 * features.abs().max().item())


@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "efficientnet", "efficientnet_lite0", "vgg16"])
def test_frozen_backbone_never_moves(name):
    with pytest.warns(UserWarning, match="random projections"):
        backbone = build(name, trainable="none")
    assert backbone.frozen
    before = running_statistics(backbone)
    backbone.train()
    nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    features = backbone(torch.randn(2, 3, 112, 112))
    assert not features.requires_grad
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    for key, value in running_statistics(backbone).items():
        assert torch.equal(value, before[key]), key


def test_convnet_has_the_papers_size_and_keras_constants():
    backbone = ConvNet()
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == 1_127_808
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    convs = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [32, 64, 128, 128, 256, 256]
    for conv in convs:
        bound = (6 / (9 * (conv.in_channels + conv.out_channels))) ** 0.5  # Glorot-uniform
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert not conv.bias.any()
    assert [[type(layer).__name__ for layer in block] for block in backbone] == [
        ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    ] * 6
    assert (backbone.mean, backbone.std) == ((0.0,) * 3, (255.0,) * 3)


def test_convnet_arguments():
    backbone = ConvNet(filters=[8, 16], bn_momentum=0.1)
    assert backbone.num_features == 16
    assert backbone.block1.norm.momentum == 0.1
    assert backbone(torch.zeros(1, 3, 15, 9)).shape == (1, 16, 4, 3)


def test_ceil_pooling_keeps_the_last_row_and_column():
    backbone = ConvNet(filters=[4], pool_padding="ceil").eval()
    frames = torch.rand(1, 3, 5, 5)
    before_pooling = backbone.block1[:3](frames)
    torch.testing.assert_close(backbone(frames)[..., -1, -1], before_pooling[..., -1, -1])


@pytest.mark.parametrize(
    "arguments",
    [
        {"pools": 4},
        {"pools": 6, "pool_last": False},
        {"pools": 7},
        {"pools": -1, "pool_last": False},
        {"pool_padding": "same"},
        {"filters": []},
    ],
)
def test_convnet_refuses_contradictions(arguments):
    with pytest.raises(ValueError, match=r"pools|pool_padding|filters"):
        ConvNet(**arguments)


def test_unknown_trainable_is_refused():
    with pytest.raises(ValueError, match="'some'"):
        EfficientNetLite0(weights="none", trainable="some")


@pytest.mark.filterwarnings("ignore:VGG16 is frozen with random weights")
def test_vggface_weights_bring_their_statistics(tmp_path):
    theirs = build("vgg16").state_dict()
    torch.save(theirs, tmp_path / "vggface.pth")
    backbone = build("vgg16", vggface=str(tmp_path / "vggface.pth"))
    assert backbone.pretrained
    assert backbone.frozen
    assert (backbone.mean, backbone.std) == ((129.1863, 104.7624, 93.5940), (1.0, 1.0, 1.0))
    assert all(torch.equal(value, theirs[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("ResNet50", ResNet50_Weights.IMAGENET1K_V1),
        ("EfficientNetB0", EfficientNet_B0_Weights.IMAGENET1K_V1),
        ("VGG16", VGG16_Weights.IMAGENET1K_V1),
        ("InceptionV3", Inception_V3_Weights.IMAGENET1K_V1),
    ],
)
def test_statistics_are_those_of_torchvisions_weights(name, weights):
    backbone = getattr(backbones, name)
    preset = weights.transforms()
    mean, std = torch.tensor(preset.mean) * 255, torch.tensor(preset.std) * 255
    if name == "InceptionV3":  # the preset is undone inside torchvision's model
        pixels = torch.rand(2, 3, 4, 4) * 255
        model = InceptionTransform()
        theirs = model._transform_input((pixels - mean[:, None, None]) / std[:, None, None])
        ours = (pixels - torch.tensor(backbone.mean)[:, None, None]) / torch.tensor(backbone.std)[
            :, None, None
        ]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    else:
        torch.testing.assert_close(torch.tensor(backbone.mean), mean)
        torch.testing.assert_close(torch.tensor(backbone.std), std)
    assert backbone.url == weights.url


class InceptionTransform:
    """Torchvision's input transform without the network around it."""

    transform_input = True
    _transform_input = Inception3._transform_input


@pytest.mark.parametrize(("backbone", "size"), [(ResNet50, 96), (InceptionV3, 139)])
def test_trunk_computes_what_torchvision_does(backbone, size):
    """Same parameters, same features as torchvision's whole model before its pooling."""
    torch.manual_seed(0)
    model = resnet50() if backbone is ResNet50 else inception_v3(aux_logits=False, init_weights=False)
    model.eval()
    ours = backbone(weights="none").eval()
    ours.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")})
    taken = []
    model.avgpool.register_forward_pre_hook(lambda _, arguments: taken.append(arguments[0]))
    frames = torch.randn(2, 3, size, size)
    with torch.no_grad():
        model(frames)
        torch.testing.assert_close(ours(frames), taken[0])


@pytest.fixture(scope="module")
def lite0():
    backbone = EfficientNetLite0().eval()
    assert backbone.pretrained
    return backbone


def picture(name):
    """Photograph as ImageNet evaluation takes it: short side 256, the middle 224x224, RGB in 0..255."""
    data = pytest.importorskip("skimage.data")
    pixels = torch.from_numpy(np.moveaxis(getattr(data, name)(), -1, 0).copy()).float()
    pixels = transform.resize(pixels, [256], transform.InterpolationMode.BICUBIC, antialias=True)
    return transform.center_crop(pixels, [224, 224]).clamp(0, 255)[None]


def normalised(backbone, pixels):
    return (pixels - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)


@pytest.mark.parametrize(
    ("name", "classes", "least"),
    [  # ImageNet: tabby, tiger cat, Persian, Siamese, Egyptian cat; espresso, cup; missile, projectile
        ("cat", [281, 282, 283, 284, 285], 0.85),
        ("coffee", [967, 968], 0.85),
        ("rocket", [657, 744], 0.3),
    ],
)
def test_lite0_recognises_photographs(lite0, name, classes, least):
    head = load_state(EfficientNetLite0.imagenet_file())
    with torch.no_grad():
        features = lite0(normalised(lite0, picture(name))).mean(dim=(2, 3))
        probs = F.linear(features, head["_fc.weight"], head["_fc.bias"]).softmax(dim=1)[0]
    assert probs.argmax().item() in classes
    assert probs[classes].sum() > least


def test_lite0_statistics_are_those_it_was_trained_with(lite0):
    """Photographs give the stem the variances that training recorded; not so with ImageNet's statistics."""
    pixels = torch.cat([picture(name) for name in ("cat", "coffee", "rocket", "astronaut")])

    def deviation(frames):
        conv, norm = lite0.features[0][0], lite0.features[0][1]
        with torch.no_grad():
            variance = conv(frames).var(dim=(0, 2, 3))
        return (variance / norm.running_var).log().abs().median()

    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    assert 2 * deviation(normalised(lite0, pixels)) < deviation((pixels - mean) / std)


def test_lite0_pads_like_tensorflow(lite0):
    """Even sizes: zeros only at the end, so the first output sees the first three pixels."""
    stem = lite0.features[0][0]
    frames = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        out = stem(frames)
        corner = (stem.weight * frames[:, :, :3, :3]).sum(dim=(1, 2, 3))
    assert out.shape[-2:] == (56, 56)
    torch.testing.assert_close(out[0, :, 0, 0], corner, rtol=1e-4, atol=1e-4)


def test_lite0_is_built_as_it_was_trained(lite0):
    kinds = {type(module).__name__ for module in lite0.modules()}
    assert "ReLU6" in kinds
    assert not kinds & {"SiLU", "SqueezeExcitation"}
    assert {module.eps for module in lite0.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


def test_lite0_loads_every_tensor_by_name():
    """The renaming is a bijection onto torchvision's names, in the same order and with the same shapes."""
    state = load_state(EfficientNetLite0.imagenet_file())
    renamed = EfficientNetLite0.rename(state)
    assert len(renamed) == len(state) == 296
    own = EfficientNetLite0(weights="none").state_dict()
    assert renamed.keys() - own.keys() == {"classifier.1.weight", "classifier.1.bias"}
    assert [key for key in renamed if not key.startswith("classifier")] == list(own)


IN_0_TO_1 = {"mean": [0, 0, 0], "std": [255, 255, 255]}


def test_lite0_warns_once_of_pixels_that_its_weights_do_not_expect(lite0):
    with pytest.warns(UserWarning, match=r"its weights expect \(pixel - \[127\.0") as caught:
        backbone = EfficientNetLite0(**IN_0_TO_1)
    assert [Path(warning.filename).name for warning in caught] == ["test_backbones.py"]
    assert (backbone.mean, backbone.std) == ((0.0,) * 3, (255.0,) * 3)
    assert (
        (EfficientNetLite0.mean, EfficientNetLite0.std)
        == (lite0.mean, lite0.std)
        == ((127.0,) * 3, (128.0,) * 3)
    )
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, lite0.state_dict()[name]), name


@pytest.mark.parametrize(
    "arguments",
    [
        {"mean": None, "std": None},
        {"mean": [127, 127, 127], "std": [128, 128, 128]},
        {"weights": "none", **IN_0_TO_1},
    ],
)
def test_lite0_does_not_warn_where_no_weights_are_misled(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EfficientNetLite0(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": [0.0]}, "^mean must be three values"),
        ({"std": [1.0] * 4}, "^std must be three values"),
        ({"std": [1.0, 0.0, 1.0]}, "^std must be above 0"),
    ],
)
def test_lite0_refuses_statistics_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        EfficientNetLite0(weights="none", **arguments)


EXPECTED_PIXELS = ((127.0,) * 3, (128.0,) * 3)
PRETRAINING = {  # row: pre-trained, frozen, pixel statistics
    "fine_tuned": (True, False, EXPECTED_PIXELS),
    "frozen": (True, True, EXPECTED_PIXELS),
    "from_scratch": (False, False, EXPECTED_PIXELS),
    "fine_tuned_wrong_pixels": (True, False, ((0.0,) * 3, (255.0,) * 3)),
    "frozen_wrong_pixels": (True, True, ((0.0,) * 3, (255.0,) * 3)),
    "frozen_raw_pixels": (True, True, ((0.0,) * 3, (1.0,) * 3)),
}


@pytest.mark.filterwarnings("ignore:EfficientNetLite0 gets")
def test_rows_on_pretraining_differ_in_the_backbone_alone(compose):
    rows = {path.stem for path in (CONF.parent / "experiment" / "pretraining").glob("*.yaml")}
    assert rows == {*PRETRAINING, "ours"}
    ours = OmegaConf.to_container(compose("experiment=pretraining/ours"))
    for row, (pretrained, frozen, statistics) in PRETRAINING.items():
        cfg = compose(f"experiment=pretraining/{row}")
        backbone = instantiate(cfg.backbone, _convert_="all")
        assert isinstance(backbone, EfficientNetLite0)
        assert (backbone.pretrained, backbone.frozen) == (pretrained, frozen), row
        assert (backbone.mean, backbone.std) == statistics, row
        theirs = OmegaConf.to_container(cfg)
        assert {key for key in ours if theirs[key] != ours[key]} == {
            "backbone",
            "name",
            "title",
            "paper_f1",
        }, row


@pytest.mark.filterwarnings("ignore")
def test_run_with_wrong_pixels_is_rebuilt_with_them(compose):
    cfg = compose("experiment=pretraining/frozen_wrong_pixels", "epochs=1")
    metrics = train(cfg)
    assert (metrics["from_scratch"], metrics["frozen"]) == (False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = load(cfg.out_dir)
    network = module.network
    assert network.mean.flatten().tolist() == [0.0] * 3
    assert network.std.flatten().tolist() == [255.0] * 3
    saved = load_state(EfficientNetLite0.imagenet_file())
    assert torch.equal(network.backbone.features[0][0].weight, saved["_conv_stem.weight"])
