"""Tables from run folders written by hand, against the statistics and measures called directly."""

import functools
import gc
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from run_folders import AUS, FRAMES, GROUPS, PROVENANCE, predictions, write_run, write_unfinished
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from aunet.cells import plan
from aunet.measures import macro, summary
from aunet.results import read_table
from aunet.runs import RunError
from aunet.statistics import au_intervals, compare, f1_interval, video_counts

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

NAMES = [f"AU{au}" for au in AUS]

read = functools.partial(read_table, resamples=500)


def probabilities(row, seed=0, **options):
    """Probabilities, labels and group of a run."""
    arrays = predictions(row, seed, **options)
    probs = torch.from_numpy(arrays["logits"]).sigmoid().numpy()
    return probs, arrays["labels"], arrays["group"]


@pytest.mark.filterwarnings("ignore:.* videos. an interval may cover less")
def counts(row, seeds=(0,), **options):
    """Confusion counts of a row's groups, for each seed."""
    found = []
    for seed in seeds:
        probs, labels, group = probabilities(row, seed, **options)
        found.append(video_counts(probs, labels, np.unique(group, return_inverse=True)[1]))
    return found


def by_name(table):
    return {row.name: row for row in table.rows}


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """statsmodels collects garbage in each call, for seconds where as much is imported as here."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """ "ours" and "strong" with three and two seeds, "weak" with one that failed, "lost" with none."""
    folder = tmp_path_factory.mktemp("runs") / "table1"
    for seed in (10, 0, 2):
        write_run(
            folder, "ours", seed, reference="ours", skill=0.8, training_seconds=10.0 + seed, flops=10**8
        )
    for seed in (0, 2):
        write_run(folder, "strong", seed, reference="ours", skill=2.0, pos_weight=[3.0, 1.0, 2.0])
    write_run(folder, "weak", 2, reference="ours", skill=0.3, paper_f1=None, from_scratch=False, frozen=True)
    write_unfinished(folder, "weak", 0, "the disk is full")
    write_unfinished(folder, "lost", 1)
    plan(folder, {("lost", seed): {"title": "never\nended", "reference": "ours"} for seed in (1, 3)})
    return folder


@pytest.fixture(scope="module")
def table(sweep):
    return read(sweep)


@pytest.fixture
def directly():
    """Calls of the statistics warn of few videos, as they should."""
    with pytest.warns(UserWarning, match="8 videos: an interval may cover less"):
        yield


def test_value_and_interval_are_those_of_the_statistics(table, directly):
    ours = by_name(table)["ours"]
    assert ours.seeds == [0, 2, 10]
    assert ours.f1 == f1_interval(counts("ours", (0, 2, 10), skill=0.8), resamples=500)
    assert list(ours.f1_per_au) == NAMES
    assert list(ours.f1_per_au.values()) == au_intervals(counts("ours", (0, 2, 10), skill=0.8), resamples=500)
    assert ours.f1.low < ours.f1.value < ours.f1.high


def test_f1_is_the_mean_over_seeds_of_scikit_learns(sweep, table):
    of_seed, recorded = [], []
    for seed in (0, 2, 10):
        probs, labels, _ = probabilities("ours", seed, skill=0.8)
        of_seed.append(
            np.mean([f1_score(y[y >= 0], p[y >= 0] >= 0.5) for p, y in zip(probs.T, labels.T, strict=True)])
        )
        recorded.append(json.loads((sweep / "ours" / f"seed{seed}" / "metrics.json").read_text())["val/f1"])
    ours = by_name(table)["ours"]
    assert ours.f1.value == pytest.approx(np.mean(of_seed), abs=1e-12)
    assert ours.f1.value == pytest.approx(np.mean(recorded), abs=1e-12)
    assert ours.spread == pytest.approx(np.std(of_seed, ddof=1), abs=1e-12)
    assert by_name(table)["weak"].spread is None


def test_facts_of_a_row(table):
    ours, weak = by_name(table)["ours"], by_name(table)["weak"]
    assert (ours.title, ours.paper_f1, ours.starts) == ("the ours", 0.4803, "from scratch")
    assert (ours.epochs, ours.parameters, ours.flops) == (8, 1_500_000, 10**8)
    assert ours.seconds == pytest.approx(14.0)
    assert (weak.paper_f1, weak.starts, weak.flops) == (None, "pre-trained, frozen", None)


def test_differences_are_over_the_shared_seeds_and_corrected_together(table, directly):
    rows = by_name(table)
    ours = {seed: counts("ours", (seed,), skill=0.8)[0] for seed in (0, 2)}
    strong = compare(counts("strong", (0, 2), skill=2.0), [ours[0], ours[2]], resamples=500)
    weak = compare(counts("weak", (2,), skill=0.3), [ours[2]], resamples=500)
    assert (rows["strong"].difference, rows["weak"].difference) == (strong, weak)
    assert rows["ours"].difference is rows["lost"].difference is None
    assert strong.value > 0 > weak.value
    corrected = multipletests([strong.p, weak.p], method="holm")[1]
    assert [rows["strong"].p_corrected, rows["weak"].p_corrected] == pytest.approx(corrected.tolist())
    low, high = sorted([strong.p, weak.p])
    assert sorted(corrected) == pytest.approx([2 * low, max(2 * low, high)])
    for row, difference, p in zip(("strong", "weak"), (strong, weak), corrected, strict=True):
        assert rows[row].differs == (
            rows[row].seeds_compared > 1 and p < 0.05 and not difference.low <= 0 <= difference.high
        )
    assert rows["strong"].differs
    assert not rows["ours"].differs


def test_measures_are_the_means_over_the_seeds(table):
    found = [
        summary(*probabilities("strong", seed, skill=2.0), pos_weight=[3.0, 1.0, 2.0]) for seed in (0, 2)
    ]
    strong = by_name(table)["strong"]
    assert list(strong.measures) == list(found[0])
    for name in found[0]:
        mean = (found[0][name] + found[1][name]) / 2
        assert [strong.measures[name][au] for au in NAMES] == pytest.approx(mean.tolist())
        assert strong.measures[name]["macro"] == pytest.approx(macro(mean))
    assert strong.measures["brier"] != strong.measures["brier_corrected"]
    ours = by_name(table)["ours"].measures  # without pos_weight, as of runs that came before it
    assert ours["brier"] == ours["brier_corrected"]
    assert ours["f1"]["macro"] == pytest.approx(by_name(table)["ours"].f1.value)


def test_measures_that_are_undefined_are_none(tmp_path):
    labels = predictions("a")["labels"].copy()
    labels[:, 1] = np.minimum(labels[:, 1], 0)  # an AU that nobody shows
    write_run(tmp_path / "s", "a", arrays={"labels": labels})
    measures = by_name(read(tmp_path / "s"))["a"].measures
    assert measures["roc_auc"]["AU2"] is None
    assert measures["roc_auc"]["macro"] == pytest.approx(
        (measures["roc_auc"]["AU1"] + measures["roc_auc"]["AU12"]) / 2
    )
    assert measures["f1"]["AU2"] == 0


def test_a_logit_next_to_zero_counts_as_in_the_evaluation(tmp_path):
    logits = predictions("a")["logits"].copy()
    logits[::3] = -1e-9  # a probability of one half in the float32 of the evaluation
    folder = write_run(tmp_path / "s", "a", arrays={"logits": logits})
    labels = predictions("a")["labels"]
    detected = torch.from_numpy(logits).sigmoid().numpy() >= 0.5
    assert detected[0].all()
    expected = [f1_score(y[y >= 0], p[y >= 0]) for p, y in zip(detected.T, labels.T, strict=True)]
    assert by_name(read(folder.parents[1]))["a"].f1.value == pytest.approx(np.mean(expected))


def test_huge_logits_are_certain(tmp_path):
    labels = predictions("a")["labels"]
    logits = np.where(labels == 1, 5000, -5000).astype(np.float32)
    write_run(tmp_path / "s", "a", arrays={"logits": logits})
    row = by_name(read(tmp_path / "s"))["a"]
    assert (row.f1.value, row.f1.low, row.f1.high) == (1, 1, 1)
    assert row.measures["brier"]["macro"] == 0


def test_unfinished_runs_are_shown_with_their_reason(table):
    weak, lost = by_name(table)["weak"], by_name(table)["lost"]
    assert (weak.seeds, weak.unfinished) == ([2], {0: "failed: the disk is full"})
    assert weak.f1 is not None
    assert (lost.seeds, lost.f1, lost.measures, lost.f1_per_au) == ([], None, {}, {})
    assert lost.unfinished[1].startswith("interrupted: its process ended without a word")
    assert lost.unfinished[3] == "waiting"
    assert lost.title == "never ended"
    assert by_name(table)["ours"].unfinished == {}


def test_a_sweep_of_which_nothing_has_finished_has_rows_all_the_same(tmp_path):
    write_unfinished(tmp_path / "s", "a", failed="no")
    plan(tmp_path / "s", {("b", 0): {"title": "the b", "reference": "a"}})
    table = read(tmp_path / "s")
    assert [(row.name, row.unfinished) for row in table.rows] == [
        ("b", {0: "waiting"}),
        ("a", {0: "failed: no"}),
    ]
    assert (table.data, table.groups, table.trivial, table.provenance) == ("", 0, {}, {})
    assert read(tmp_path / "nowhere").rows == []


def test_rows_come_in_the_given_order_then_as_they_were_asked_for(sweep, table):
    assert [row.name for row in table.rows] == ["ours", "strong", "weak", "lost"]
    assert [row.name for row in read(sweep, order=["weak", "missing", "strong"]).rows] == [
        "weak", "strong", "ours", "lost",
    ]  # fmt: skip


def test_reference_of_the_plan_of_the_caller_or_none(sweep, tmp_path):
    given = by_name(read(str(sweep), "strong"))
    assert {name: row.reference for name, row in given.items()} == dict.fromkeys(given, "strong")
    assert given["strong"].difference is None
    assert given["ours"].difference.value < 0
    with pytest.raises(RunError, match=r"no row 'best' to compare with; there are ours, strong, weak, lost"):
        read(sweep, "best")
    other = tmp_path / "other"
    for row, reference in (("a", "b"), ("b", "c"), ("d", "a")):
        write_run(other, row, reference=reference)
    write_run(other, "unplanned")
    rows = by_name(read(other))
    found = {name: row.reference for name, row in rows.items()}
    assert found == {"a": "b", "b": None, "d": "a", "unplanned": None}
    assert {name for name, row in rows.items() if row.difference} == {"a", "d"}
    write_run(other, "ours")
    assert by_name(read(other))["unplanned"].reference == "ours"


def test_rows_without_a_shared_seed_are_not_compared(tmp_path):
    write_run(tmp_path / "s", "ours", 0)
    write_run(tmp_path / "s", "a", 1)
    row = by_name(read(tmp_path / "s"))["a"]
    assert (row.reference, row.difference, row.p_corrected, row.differs) == ("ours", None, None, False)


def test_several_sweeps_share_a_table(sweep, tmp_path):
    other = tmp_path / "grid"
    write_run(other, "small", reference="ours", skill=0.5)
    write_run(other, "ours", reference="ours")
    write_run(other, "only", reference="strong")
    table = read([sweep, other, other.parent / "grid" / ".." / "grid"])
    rows = by_name(table)
    assert list(rows) == [
        "table1/ours", "table1/strong", "table1/weak", "table1/lost", "grid/ours", "grid/small", "grid/only",
    ]  # fmt: skip
    assert rows["grid/small"].reference == "grid/ours"
    assert rows["grid/only"].reference is None  # which is a row of the other sweep
    assert rows["table1/strong"].reference == "table1/ours"
    assert rows["table1/ours"].f1 == by_name(read(sweep))["ours"].f1
    # Where titles are the same, a reader must tell the rows apart.
    assert [row.title for row in table.rows if "ours" in row.name] == [
        "the ours (table1/ours)", "the ours (grid/ours)",
    ]  # fmt: skip
    assert rows["grid/small"].title == "the small"
    assert by_name(read([sweep, other], "table1/strong"))["grid/small"].difference is not None
    with pytest.raises(RunError, match="no row 'ours'"):
        read([sweep, other], "ours")


def test_sweeps_of_the_same_name_are_kept_apart(tmp_path):
    for place, skill in (("old", 0.5), ("new", 2.0)):
        write_run(tmp_path / place / "table1", "ours", skill=skill)
    table = read([tmp_path / "old" / "table1", tmp_path / "new" / "table1"])
    old, new = table.rows
    assert (old.name, new.name) == (f"{tmp_path}/old/table1/ours", f"{tmp_path}/new/table1/ours")
    assert old.f1.value < new.f1.value
    assert table.provenance["runs"] == 2
    assert [row.name for row in read([tmp_path / "old/table1"] * 2).rows] == ["ours"]


def test_rows_of_different_data_share_no_table(tmp_path):
    write_run(tmp_path / "s", "a")
    write_run(tmp_path / "s", "b", data_fingerprint="train:0-val:2")
    with pytest.raises(RunError, match=r"rows a \(seed 0\) and b \(seed 0\) were trained on different data"):
        read(tmp_path / "s")


def test_seeds_of_different_recipes_share_no_mean(tmp_path):
    write_run(tmp_path / "s", "b", 0)
    write_run(tmp_path / "s", "b", 3, recipe_digest="1")
    with pytest.raises(RunError, match=r"s/b: seeds were trained with different configurations"):
        read(tmp_path / "s")


def test_runs_of_other_validation_videos_share_no_table(tmp_path):
    write_run(tmp_path / "s", "a")
    group = predictions("b")["group"]
    write_run(tmp_path / "s", "b", 1, arrays={"group": np.where(group == "v0", "v9", group)})
    with pytest.raises(RunError, match=r"b/seed1: its validation videos are not those of the other runs"):
        read(tmp_path / "s")


def test_videos_are_the_groups_of_runs_that_name_none(tmp_path):
    write_run(tmp_path / "s", "a", arrays={"group": None})
    table = read(tmp_path / "s")
    assert table.groups == 2 * GROUPS
    probs, labels, _ = probabilities("a")
    number = np.unique(predictions("a")["video"], return_inverse=True)[1]
    with pytest.warns(UserWarning, match="16 videos"):
        assert by_name(table)["a"].f1 == f1_interval(video_counts(probs, labels, number), resamples=500)


def test_a_single_group_has_a_value_and_no_measures(tmp_path):
    write_run(tmp_path / "s", "a", groups=1)
    write_run(tmp_path / "s", "ours", groups=1, skill=3.0)
    table = read(tmp_path / "s")
    a = by_name(table)["a"]
    assert table.groups == 1
    assert a.measures == {}
    assert a.f1.low <= a.f1.value <= a.f1.high
    assert a.difference.p == 1
    assert not a.differs


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive", b"\x93NUMPY\x01\x00"])
def test_damaged_predictions_are_named(content, tmp_path):
    (write_run(tmp_path / "s", "a") / "predictions.npz").write_bytes(content)
    with pytest.raises(RunError, match=r"seed0/predictions\.npz: not readable .*remove the run's folder"):
        read(tmp_path / "s")


def test_predictions_that_are_no_archive_or_rotten_within_are_named(tmp_path):
    file = write_run(tmp_path / "s", "a") / "predictions.npz"
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("logits.npy")
    start = entry.header_offset + 80
    content[start : start + 40] = b"\xff" * 40
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"predictions\.npz: not readable"):
        read(tmp_path / "s")
    with file.open("wb") as single:
        np.save(single, np.zeros(3))
    with pytest.raises(RunError, match=r"predictions\.npz: not readable"):
        read(tmp_path / "s")


@pytest.mark.parametrize("missing", ["file", "logits", "labels", "video"])
def test_missing_predictions_are_named(missing, tmp_path):
    left_out = {} if missing == "file" else {missing: None, "group": None}
    folder = write_run(tmp_path / "s", "a", arrays=left_out)
    if missing == "file":
        (folder / "predictions.npz").unlink()
    with pytest.raises(RunError, match=r"predictions\.npz: not readable .*remove the run's folder"):
        read(tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("logits", lambda a: a[:-1], "are not those of frames with 3 AUs"),
        ("labels", lambda a: a[:, :2], "are not those of frames with 3 AUs"),
        ("group", lambda a: a[:-1], "and 191 groups are not those"),
        ("logits", lambda a: np.where(a > 1, np.nan, a), "a logit is not finite"),
        ("labels", lambda a: np.where(a < 0, 5, a), "a label not 0, 1 or -1"),
    ],
)
def test_predictions_that_do_not_belong_together_are_named(name, change, said, tmp_path):
    write_run(tmp_path / "s", "a", arrays={name: change(predictions("a")[name])})
    with pytest.raises(RunError, match=rf"a/seed0/predictions\.npz: .*{said}"):
        read(tmp_path / "s")


@pytest.mark.parametrize("name", ["metrics.json", "provenance.json"])
def test_damaged_records_are_named(name, tmp_path):
    (write_run(tmp_path / "s", "a") / name).write_text("{")
    with pytest.raises(RunError, match=rf"seed0/{name}.*remove the run's folder"):
        read(tmp_path / "s")


def test_metrics_of_another_version_are_named(tmp_path):
    file = write_run(tmp_path / "s", "a") / "metrics.json"
    content = json.loads(file.read_text())
    del content["frozen"], content["aus"]
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"a/seed0/metrics\.json: lacks aus, frozen; remove the run's folder"):
        read(tmp_path / "s")


def test_trivial_predictors_equal_hand_computation(tmp_path):
    """Labels: AU1 is present in 2 of 4 frames; AU2 in 1 of 3, unknown in one. Rates 1/2 and 1/4."""
    arrays = {
        "labels": np.array([[1, 1], [1, 0], [0, -1], [0, 0]], np.int8),
        "logits": np.zeros((4, 2), np.float32),
        "group": np.array(["a", "a", "b", "b"]),
    }
    write_run(tmp_path / "s", "a", aus=(1, 2), arrays=arrays)
    # F1 = 2 tp / (2 tp + fp + fn). All present: AU1 tp 2, fp 2; AU2 tp 1, fp 2.
    # Random: AU1 tp 1, fp 1, fn 1; AU2 tp 1/4, fp 2/4, fn 3/4.
    table = read(tmp_path / "s")
    assert table.trivial == pytest.approx(
        {
            "every AU present": (4 / 6 + 2 / 4) / 2,
            "random at the training rates": (2 / 4 + (1 / 2) / (1 / 2 + 2 / 4 + 3 / 4)) / 2,
        }
    )
    assert table.rows[0].f1.value == table.trivial["every AU present"]  # at a logit of 0


def test_an_au_without_training_labels_has_a_rate_of_zero(tmp_path):
    write_run(tmp_path / "s", "a", training_rates=[0.5, float("nan"), 0.4])
    zero = tmp_path / "zero"
    write_run(zero, "a", training_rates=[0.5, 0.0, 0.4])
    assert read(tmp_path / "s").trivial == read(zero).trivial


def test_provenance_tells_each_fact_once(sweep, tmp_path):
    folder = tmp_path / "table1"
    shutil.copytree(sweep, folder)
    again = {
        **PROVENANCE,
        "commit": "def5678",
        "attempts": [PROVENANCE["attempts"][0], {"system": "Linux", "cores": 8}],
    }
    (folder / "strong" / "seed0" / "provenance.json").write_text(json.dumps(again))
    (folder / "ours" / "seed2" / "provenance.json").unlink()
    table = read(folder)
    assert table.provenance == {
        "data": "affwild2",
        "data_fingerprint": "train:0-val:1",
        "splits": {"train": {"videos": 20, "frames": 480}, "val": {"videos": 16, "frames": GROUPS * FRAMES}},
        "runs": 6,
        "training_hours": 0.02,
        "commits": ["abc1234", "def5678"],
        "packages": [{"torch": "2.6.0"}],
        "machines": [{"cores": 2, "system": "Linux"}, {"cores": 8, "system": "Linux"}],
    }
    assert (table.data, table.groups, table.aus) == ("affwild2", GROUPS, NAMES)
