"""``aunet attention`` on tiny runs: scores against a second computation, what is written, and errors."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_folders import write_run
from scipy.stats import spearmanr

from aunet.cli import main
from aunet.data import rendered
from aunet.localisation.estimates import COMPARED, MACRO, OWN, UNION, Sample, estimates, score_frames
from aunet.localisation.maps import Maps, centre_prior, uniform
from aunet.localisation.scores import MEASURES
from aunet.localisation.study import find_runs, place_of, study
from aunet.runs import RunError
from aunet.train import train
from aunet.trained import load, load_data, load_untrained

pytestmark = pytest.mark.filterwarnings("ignore")

HALVES = np.repeat([0, 1], 14)


@pytest.fixture(scope="module")
def sample():
    """Frames of 9 videos with 4 AUs, the last of which nobody shows; what is moved is noise."""
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 4)) < 0.4).astype(np.int8)
    labels[:, 3] = 0
    labels[5] = -1
    moved = rng.integers(0, 200, (60, 4, 28, 28)).astype(np.uint8)
    moved[7] = 0  # labelled, but nothing of it is seen
    return Sample(np.arange(60), labels, rng.integers(0, 9, 60), moved)


def random_maps(shared, seed=1):
    weights = np.random.default_rng(seed).random((60, 1 if shared else 4, 2, 2))
    return Maps(weights, HALVES, HALVES)


def one_score(measure, cells, moved):
    """Of one map and the displacements of one AU, or of several."""
    part = (moved / moved.max((1, 2), keepdims=True)).max(0)
    if measure == "energy":
        return cells[part >= 0.5].sum()
    if measure == "pointing":
        return (part >= 0.5)[np.isclose(cells, cells.max(), rtol=1e-9)].mean()
    return spearmanr(cells.ravel(), part.ravel()).statistic


def direct(sample, maps, measure, target):
    """Mean over the AUs of the mean over frames, or the mean over frames, by loops."""
    values = {au: [] for au in range(4)}
    for frame in range(60):
        shown = [au for au in range(4) if sample.labels[frame, au] == 1 and sample.moved[frame, au].any()]
        cells = {
            au: np.kron(maps.weights[frame, 0 if maps.shared else au], np.ones((14, 14))) for au in shown
        }
        cells = {au: of_au / of_au.sum() for au, of_au in cells.items()}
        if target == OWN:
            for au in shown:
                values[au].append(one_score(measure, cells[au], sample.moved[frame, [au]]))
        elif shown:
            mean = np.mean([*cells.values()], 0)
            values[0].append(one_score(measure, mean, sample.moved[frame, shown]))
    return np.mean([np.mean(of_au) for of_au in values.values() if of_au])


@pytest.mark.parametrize("shared", [True, False])
def test_scores_equal_a_direct_computation(shared, sample):
    seeds = [random_maps(shared, seed) for seed in (1, 2)]
    sums = [score_frames({"attention": maps}, sample) for maps in seeds]
    aus = ["AU1", "AU2", "AU4", "AU6"]
    found = estimates("ours", sums, {}, sample, aus, 200)
    for target in (OWN, UNION):
        for measure in MEASURES:
            expected = [direct(sample, maps, measure, target) for maps in seeds]
            (score,) = [s for s in found if (s.target, s.measure, s.au) == (target, measure, MACRO)]
            assert score.by_seed == pytest.approx(expected)
            assert score.value == pytest.approx(np.mean(expected))
            assert score.low <= score.value <= score.high
    assert {s.au for s in found} == {MACRO, "AU1", "AU2", "AU4"}  # nobody shows the last one
    assert {s.row for s in found} == {"ours"}


def test_a_map_that_is_the_displacement_is_better_than_the_priors_and_differs_from_itself_by_nothing(sample):
    exact = Maps(sample.moved.astype(float) + 1e-9, np.arange(28), np.arange(28))
    sums = score_frames({"attention": exact, "grad_cam": exact, "attention_untrained": exact}, sample)
    priors = score_frames({"uniform": uniform(60), "centre": centre_prior(60)}, sample)
    found = {
        (s.method, s.less, s.measure): s
        for s in estimates("x", [sums], priors, sample, ["1", "2", "3", "4"], 500)
        if (s.target, s.au) == (OWN, MACRO)
    }
    assert found["attention", "", "pointing"].value == 1
    assert found["attention", "", "rank"].value == pytest.approx(1)
    for prior in ("uniform", "centre"):
        difference = found["attention", prior, "energy"]
        assert 0 < difference.low < difference.value < difference.high
    same = found["attention", "grad_cam", "energy"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert {key[:2] for key in found if key[1]} == {
        pair
        for pair in COMPARED
        if {*pair} <= {"attention", "grad_cam", "attention_untrained", "uniform", "centre"}
    }
    assert not {("uniform", "", "energy"), ("centre", "", "energy")} & found.keys()


def test_the_uniform_map_has_the_regions_share_of_the_picture(sample):
    sums = score_frames({"uniform": uniform(60)}, sample)
    shown = np.argwhere(sample.shown)
    areas = [(m := sample.moved[tuple(pair)]).astype(float) >= m.max() / 2 for pair in shown]
    expected = np.mean(
        [np.mean([a.mean() for a, (_, au) in zip(areas, shown, strict=True) if au == n]) for n in range(3)]
    )
    found = estimates("", [sums], {}, sample, ["1", "2", "3", "4"], 100)
    macro = {s.measure: s.value for s in found if (s.target, s.au) == (OWN, MACRO)}
    assert macro["energy"] == macro["pointing"] == pytest.approx(expected)
    assert macro["rank"] == 0


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A tiny rendered set."""
    videos = {"train": 4, "val": 7, "test": 1}
    root = tmp_path_factory.mktemp("faces") / "set"
    return rendered.render(root, videos=videos, frames_per_video=3, stride=30, seed=5, workers=2)


@pytest.fixture(scope="module")
def trained():
    """Run folders that were trained before, by row and seed."""
    return {}


@pytest.fixture
def run(compose, faces, trained, tmp_path):
    """Gives the folder of a tiny run of the paper's network on the rendered set, in a sweep of its own."""

    def folder(row="per_au_7x7", seed=0, sweep="tiny"):
        place = tmp_path / sweep / row / f"seed{seed}"
        if (row, seed) in trained:
            shutil.copytree(trained[row, seed], place)
        else:
            options = f"seed={seed}", f"sweep={sweep}", "epochs=1", "backbone.filters=[4,4,4,4,8,8]"
            train(compose(f"experiment=attention_grid/{row}", *options, f"data.root={faces}"))
            trained[row, seed] = place
        return place

    return folder


def test_scores_of_a_run_equal_a_second_computation(run, faces, tmp_path):
    """From the truth files, the network's weights and SciPy alone; 7x7 positions are 4x4 cells each."""
    folder = run()
    found = study([folder], tmp_path / "out", resamples=100)
    data, net = load_data(folder), load(folder).network
    table = data.tables["val"]
    assert found.frames == len(table)
    pictures = torch.from_numpy(data.frames("val", np.arange(len(table)))).permute(0, 3, 1, 2)
    with torch.no_grad():
        weights = net.attention.weights(net.features(pictures)).numpy()
    values = {measure: {} for measure in MEASURES}
    for row, number in enumerate(table.frame):
        truth = np.load(faces / "truth" / f"{table.videos[table.video[row]]}.npz")
        for column, au in enumerate(table.aus):
            moved = truth["regions"][number - 1, list(truth["aus"]).index(au)].astype(float)
            if table.labels[row, column] == 1 and moved.any():
                cells = np.kron(weights[row, column], np.ones((4, 4))) / 16
                for measure in MEASURES:
                    values[measure].setdefault(au, []).append(one_score(measure, cells, moved[None]))
    macro = {
        s.measure: s.value
        for s in found.scores
        if (s.row, s.method, s.less, s.target, s.au) == ("per_au_7x7", "attention", "", OWN, MACRO)
    }
    for measure in MEASURES:
        expected = np.mean([np.mean(of_au) for of_au in values[measure].values()])
        assert macro[measure] == pytest.approx(expected, abs=1e-4)
    places = weights.reshape(len(table), 12, 49).argmax(2)
    same = [max(of_au.tolist().count(place) for place in range(49)) for of_au in places.T]
    assert found.rows[0].fixed == pytest.approx(np.mean(same) / len(table))
    assert found.shown == [len(values["energy"].get(au, [])) for au in table.aus]


def test_the_command_prints_and_writes_everything(run, tmp_path, capsys):
    rows = [run("shared_7x7", 0), run("shared_7x7", 1), run("none_7x7", 0)]
    (tmp_path / "tiny" / "shared_7x7" / "seed2").mkdir()
    (tmp_path / "tiny" / "shared_7x7" / "seed2" / "config.yaml").touch()
    before = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    main(["attention", str(tmp_path / "tiny"), "--frames", "12"])
    printed, said = capsys.readouterr()
    out = tmp_path / "tiny" / "attention"
    names = {p.name for p in out.iterdir()}
    assert names == {
        "scores.md", "scores.json", "scores.csv",
        "shared_7x7_seed_0_maps.png", "shared_7x7_seed_0_mean_maps.png",
        "none_7x7_seed_0_maps.png", "none_7x7_seed_0_mean_maps.png",
    }  # fmt: skip
    assert all(str(out / name) in said for name in names)
    assert [p for p in before if not p.exists()] == []
    assert max(map(len, printed.splitlines())) <= 100
    for text in (printed, (out / "scores.md").read_text()):
        for part in (
            "12 validation frames",
            "shared_7x7 seed 2: interrupted",
            "less centre prior",
            "pointing",
        ):
            assert part in " ".join(text.split())
    content = json.loads((out / "scores.json").read_text())
    assert [(r["name"], r["seeds"], r["attention"], r["map_size"]) for r in content["rows"]] == [
        ("none_7x7", [0], "none", [7, 7]), ("shared_7x7", [0, 1], "one map", [7, 7]),
    ]  # fmt: skip
    assert content["provenance"]["runs"] == len(rows)
    assert {"commits", "scored_by", "scored_on"} <= content["provenance"].keys()
    methods = {(s["row"], s["method"]) for s in content["scores"]}
    cams = {"grad_cam", "grad_cam_untrained", "grad_cam_others"}
    assert {method for row, method in methods if row == "none_7x7"} == cams
    assert {method for row, method in methods if row == "shared_7x7"} == cams | {
        "attention",
        "attention_untrained",
    }
    assert {method for row, method in methods if row == ""} == {"uniform", "centre"}
    with (out / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    values = [float(line["value"]) for line in lines]
    assert values == pytest.approx([s["value"] for s in content["scores"]], abs=6e-7)  # JSON has six decimals
    with Image.open(out / "shared_7x7_seed_0_maps.png") as sheet:
        assert sheet.width > sheet.height / 2 > 300


def test_a_run_a_row_and_a_sweep_may_be_given(tmp_path):
    sweep, other = tmp_path / "one", tmp_path / "two"
    places = {}
    for folder, row, seed in ((sweep, "a", 0), (sweep, "a", 1), (sweep, "b", 0), (other, "a", 0)):
        places[folder, row, seed] = write_run(folder, row, seed)
        (places[folder, row, seed] / "best.ckpt").touch()
    one = places[sweep, "a", 1]

    def found(*given):
        return {row: [cell.folder for cell in cells] for row, cells in find_runs(given)[0].items()}

    assert found(one) == {"a": [one]}
    assert found(one.parent) == found(one.parent, one) == {"a": [places[sweep, "a", 0], one]}
    assert found(sweep) == {"a": [places[sweep, "a", 0], one], "b": [places[sweep, "b", 0]]}
    assert found(sweep / "b", other).keys() == {"one/b", "two/a"}
    assert place_of([one]) == one / "attention"
    assert place_of([one, sweep / "b"]) == sweep / "attention"


def test_the_control_has_the_shape_and_none_of_the_training(run):
    folder = run()
    state = torch.get_rng_state()
    one, again, other = (load_untrained(folder, seed).network.state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    trained = load(folder).network.state_dict()
    assert one.keys() == trained.keys()
    for name in ("backbone.block1.conv.weight", "attention.score.weight", "classifier.weight"):
        assert torch.equal(one[name], again[name])
        assert not torch.equal(one[name], other[name])
        assert not torch.equal(one[name], trained[name])


def stopped(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["attention", *map(str, arguments)])
    assert isinstance(caught.value.code, str)
    assert caught.value.code.startswith("aunet: ")
    assert "\n" not in caught.value.code
    return caught.value.code


def test_data_without_a_truth_give_pictures_and_say_so(compose, affwild2, tmp_path, capsys):
    cfg = compose("experiment=attention_grid/shared_2x2", "epochs=1")
    train(cfg)
    main(["attention", cfg.out_dir])
    printed = " ".join(capsys.readouterr().out.split())
    assert "no scores: affwild2 does not tell where AUs moved the face" in printed
    assert {p.name for p in (Path(cfg.out_dir) / "attention").iterdir()} == {
        "shared_2x2_seed_0_maps.png", "shared_2x2_seed_0_mean_maps.png",
    }  # fmt: skip


def test_errors_are_one_line(run, faces, tmp_path):
    folder = run()
    assert f"{tmp_path / 'nothing'} holds no runs" in stopped(tmp_path / "nothing")
    assert "ask for one or more" in stopped(folder, "--frames", 0)
    assert "say where the data lie now" in stopped(folder, "--data", tmp_path / "gone")
    other = run(sweep="other")
    assert "say by --out where results go" in stopped(folder, other)
    (other / "best.ckpt").unlink()
    assert "no finished run to look at: per_au_7x7 seed 0: best.ckpt is missing" in stopped(other)
    copy = tmp_path / "faces"
    shutil.copytree(faces, copy)
    damaged = min(copy.glob("truth/2*.npz"))
    damaged.write_bytes(b"PK")
    assert str(damaged) in stopped(folder, "--data", copy)
    assert not (folder / "attention").exists()


def test_runs_on_different_data_are_refused(run, faces, tmp_path):
    folder = run()
    metrics = json.loads((folder / "metrics.json").read_text())
    other = folder.parents[1] / "other" / "seed0"
    shutil.copytree(folder, other)
    (other / "metrics.json").write_text(json.dumps(metrics | {"data_fingerprint": "train:0-val:1"}))
    with pytest.raises(RunError, match="trained on different data"):
        study([folder.parents[1]], tmp_path / "out")
