"""AUNet as a whole: pixels in, logits out, the paper's size, and what a checkpoint carries."""

from functools import partial

import pytest
import torch
from torch import nn

from aunet.attention import AveragePool, Flatten, GlobalLocalAttention
from aunet.backbones import Backbone, ConvNet
from aunet.network import AUNet, forward_flops, linear_classifier, mlp_classifier

SMALL = (4, 8, 8)


class Tiny(Backbone):
    """Contract-keeping backbone of one convolution."""

    num_features = 5
    mean = (120.0, 110.0, 100.0)
    std = (50.0, 60.0, 70.0)

    def __init__(self, frozen=False):
        super().__init__(nn.Conv2d(3, 5, 3, stride=16), nn.BatchNorm2d(5))
        self.frozen = self.pretrained = frozen
        if frozen:
            self.requires_grad_(False).eval()


def network(
    backbone=None, attention=GlobalLocalAttention, classifier=linear_classifier, num_aus=12, **arguments
):
    torch.manual_seed(0)
    return AUNet(backbone or ConvNet(SMALL), attention, classifier, num_aus, **arguments)


@pytest.fixture
def frames():
    return torch.randint(256, (4, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_papers_parameters():
    net = network(ConvNet())
    count = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in net.named_children()
    }
    assert count == {"backbone": 1_127_808, "attention": 33_281, "classifier": 3_084}
    assert sum(p.numel() for p in net.parameters()) == 1_164_173
    assert net.map_size == (2, 2)


def test_operations_of_the_papers_network_by_hand():
    sizes, filters = (112, 56, 28, 14, 7, 4), (3, 32, 64, 128, 128, 256, 256)
    blocks = sum(
        2 * 9 * before * after * size**2
        for size, before, after in zip(sizes, filters, filters[1:], strict=False)
    )
    attention = 2 * 4 * (256 * 128 + 128 + 256)  # scores of four positions, weighted sum
    assert forward_flops(network(ConvNet())) == blocks + attention + 2 * 256 * 12


def test_bytes_and_floats_give_the_same_logits(frames):
    net = network().eval()
    logits = net(frames)
    assert logits.shape == (4, 12)
    assert logits.dtype == torch.float32
    assert torch.equal(net(frames.float()), logits)
    channels_last = frames.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(channels_last), logits)
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(channels_last), logits)


@pytest.mark.parametrize("classifier", [linear_classifier, partial(mlp_classifier, hidden=(6,))])
def test_a_map_for_each_au_meets_the_classifiers_weights_of_that_au_alone(frames, classifier):
    net = network(attention=partial(GlobalLocalAttention, maps=3), classifier=classifier, num_aus=3).eval()
    features = net.features(frames).detach()
    vectors = net.attention(features)
    for au in range(3):  # as if the image had this AU's vector only
        torch.testing.assert_close(net.classify(features)[:, au], net.classifier(vectors[:, au])[:, au])
    net.classify(features)[:, 1].sum().backward()
    assert net.attention.score.weight.grad[1].abs().max() > 0
    assert net.attention.score.weight.grad[[0, 2]].abs().max() == 0


def test_forward_is_features_then_classify(frames):
    net = network().eval()
    features = net.features(frames)
    assert features.shape == (4, 8, *net.map_size)
    assert torch.equal(net.classify(features), net(frames))


def test_pixels_are_normalised_as_the_backbone_asks():
    net = network(Tiny(), AveragePool)
    seen = []
    net.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    net(torch.tensor([170.0, 50.0, 100.0]).view(1, 3, 1, 1).expand(2, 3, 112, 112))
    torch.testing.assert_close(
        seen[0], torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1).expand(2, 3, 112, 112)
    )


def test_pixel_statistics_travel_in_the_state_dict():
    state = network(Tiny()).state_dict()
    assert state["mean"].flatten().tolist() == [120.0, 110.0, 100.0]
    assert state["std"].flatten().tolist() == [50.0, 60.0, 70.0]
    other = network(Tiny())
    other.mean.zero_()
    other.load_state_dict(state)
    assert torch.equal(other.mean, state["mean"])


@pytest.mark.parametrize("train", [True, False])
def test_attention_over_one_position_changes_nothing(frames, train):
    """The literal reading of the paper: six pools that round down leave 1x1."""
    backbone = ConvNet(filters=(4, 4, 4, 4, 8, 8), pool_padding="floor")
    with pytest.warns(UserWarning, match="single position is the identity"):
        attended = network(backbone)
    plain = network(backbone, AveragePool)
    plain.classifier = attended.classifier
    assert attended.map_size == (1, 1)
    assert torch.equal(attended.train(train)(frames), plain.train(train)(frames))


def test_attention_over_several_positions_changes_the_logits(frames):
    attended = network()
    plain = network(attended.backbone, AveragePool)
    plain.classifier = attended.classifier
    assert not torch.allclose(attended.eval()(frames), plain.eval()(frames), rtol=1e-3)


def test_finding_the_map_size_leaves_no_trace():
    backbone = ConvNet(SMALL)
    backbone.block2.eval()
    modes = [module.training for module in backbone.modules()]
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    net = network(backbone)
    assert net.map_size == (14, 14)
    assert [module.training for module in backbone.modules()] == modes
    assert not all(modes)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_aggregator_is_built_for_the_image_size():
    net = network(attention=Flatten, image_size=64)
    assert net.map_size == (8, 8)
    assert net.classifier.in_features == 8 * 8 * 8
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 12)


@pytest.mark.parametrize("shape", [(3, 112, 112), (2, 1, 112, 112), (2, 112, 112, 3), (2, 5, 3, 112, 112)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"frames must be \(B, 3, H, W\), got"):
        network()(torch.zeros(shape))


def test_linear_classifier_starts_as_keras_does():
    layer = linear_classifier(256, 12)
    assert sum(p.numel() for p in layer.parameters()) == 3_084
    bound = (6 / (256 + 12)) ** 0.5
    assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert (layer.bias == 0).all()


@pytest.mark.parametrize("hidden", [(), (16,), (16, 10)])
def test_mlp_classifier(hidden, frames):
    net = network(classifier=partial(mlp_classifier, hidden=hidden, dropout=0.25), num_aus=8)
    assert net(frames).shape == (4, 8)
    linear = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [*hidden, 8]
    assert [layer.p for layer in net.classifier if isinstance(layer, nn.Dropout)] == [0.25] * len(hidden)
    assert isinstance(net.classifier[-1], nn.Linear)


def test_frozen_and_pretrained_are_the_backbones():
    assert (network().frozen_backbone, network().pretrained) == (False, False)
    net = network(Tiny(frozen=True))
    assert (net.frozen_backbone, net.pretrained) == (True, True)
    assert not net.train().backbone.training
    assert net.attention.training


def test_frozen_features_never_change_in_training(frames):
    net = network(Tiny(frozen=True)).train()
    before = net.features(frames)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    net(frames).square().sum().backward()
    optimizer.step()
    assert torch.equal(net.features(frames), before)


def test_every_parameter_learns(frames):
    net = network()
    net(frames).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith(
            ("conv.bias", "hidden.bias", "score.bias")
        ):  # normalisation or softmax cancels these
            assert parameter.grad.abs().max() > 0, name


def test_a_state_dict_restores_the_logits(frames, tmp_path):
    trained, fresh = network().train(), network()
    trained(frames)  # moves the running statistics
    torch.save(trained.state_dict(), tmp_path / "best.ckpt")
    fresh.load_state_dict(torch.load(tmp_path / "best.ckpt", weights_only=True))
    assert torch.equal(fresh.eval()(frames), trained.eval()(frames))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalisation_is_the_same_for_every_layout_and_leaves_the_frames_alone(layout, dtype):
    net = network(Tiny())
    frames = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8).to(dtype).contiguous(memory_format=layout)
    before = frames.clone()
    expected = (frames.float() - net.mean) / net.std
    normalised = net.normalise(frames)
    torch.testing.assert_close(normalised, expected, rtol=0, atol=0)
    assert normalised.is_contiguous(memory_format=layout)
    assert torch.equal(frames, before)
    if dtype == torch.float32:
        frames.requires_grad_()
        net.normalise(frames).sum().backward()
        torch.testing.assert_close(frames.grad, (1 / net.std).expand_as(frames))
