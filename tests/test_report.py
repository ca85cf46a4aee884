"""The report's page, from run folders written by hand: what it shows, and what it keeps to itself."""

import base64
import csv
import gc
import hashlib
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Page
from run_folders import AUS, predictions, write_run, write_unfinished
from sklearn.metrics import f1_score, precision_recall_curve

from aunet import report
from aunet.cli import main
from aunet.columns import notes, shown_parts
from aunet.metrics import confusion_counts, f1_per_au
from aunet.report import write_report
from aunet.report.curves import RECALLS, THRESHOLDS, f1_curve, macro_of_videos, precision_curve, read_curves
from aunet.report.facts import described
from aunet.report.gallery import KINDS, Example, Gallery, most_confident
from aunet.report.page import shown_rows, sort_key
from aunet.results import read_table, rows_of
from aunet.runs import RunError
from aunet.statistics import video_counts
from aunet.thresholds import rankings

NAMES = [f"AU{au}" for au in AUS]
NASTY = (
    "<script>alert(1)</script>",
    r"$\frac{1}{0}$ costs $5 & 50% of <b>_it_</b> \\ \"quoted\" url(#clip) id=\"x\"",
    "Straße 顔 😀 " + "very " * 60 + "long",
    "W" * 300,
)


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """statsmodels collects garbage in each call, for seconds where as much is imported as here."""
    gc.freeze()
    yield
    gc.unfreeze()


def write_history(folder, f1=(0.2, 0.5), **changes):
    rows = [
        {"epoch": i, "train/loss": 1 / (i + 1), "val/loss": 0.7, "val/f1": v} | changes
        for i, v in enumerate(f1)
    ]
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_sweep(folder):
    """ "ours" with two seeds, "strong" with two, "weak" with one and one that failed, "lost" with none."""
    for row, skill in (("ours", 0.8), ("strong", 2.0)):
        for seed in (0, 1):
            run = write_run(folder, row, seed, reference="ours", skill=skill, pos_weight=[3.0, 1.0, 2.0])
            write_history(run)
    write_run(folder, "weak", 0, reference="ours", skill=0.3)
    write_unfinished(folder, "weak", 1, "the disk is full")
    write_history(write_unfinished(folder, "lost"), (0.1,))
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("runs") / "table1")


@pytest.fixture(scope="module")
def table(sweep):
    return read_table(sweep)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where the page is."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def page(sweep, out):
    return written(out, [sweep])


def written(folder, sweeps, **options):
    """A page, written and read back."""
    write_report(sweeps, folder / "report.html", **options)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def by_name(table):
    return {row.name: row for row in table.rows}


def test_tables_are_those_of_aunet_table(page, table):
    for title, header, body in shown_parts(table):
        assert page.cells(title) == [header, *body]
    unfinished = sum(len(row.unfinished) for row in table.rows)
    said = notes(table)
    assert all(note in page.text for note in said[unfinished:])
    assert not any(note in page.text for note in said[:unfinished])  # they have a table of their own


def test_intervals_of_single_aus_are_shown(page, table):
    _, *lines = page.tables["F1 of each AU, in per cent"]
    for row, line in zip(table.rows, lines, strict=True):
        expected = [f"{100 * f1.low:.1f}–{100 * f1.high:.1f}" for f1 in row.f1_per_au.values()] or [""] * len(
            AUS
        )
        assert [small for _, small in line[1:]] == expected


def test_every_run_is_told_of(page, table):
    ours, strong, weak, lost = (by_name(table)[name] for name in ("ours", "strong", "weak", "lost"))
    header, *lines = page.cells("Runs")
    assert header == ["row", "seed 0", "seed 1"]
    said = {line[0]: line[1:] for line in lines}
    assert np.mean([float(f1) for f1 in said[ours.title]]) == pytest.approx(ours.f1.value, abs=1e-4)
    assert np.std([float(f1) for f1 in said[strong.title]], ddof=1) == pytest.approx(strong.spread, abs=1e-4)
    assert said[weak.title] == [f"{weak.f1.value:.4f}", "failed: the disk is full"]
    assert said[lost.title][0].startswith("interrupted: its process ended without a word")
    assert said[lost.title][1] == "not asked for"


def test_measures_of_single_aus_are_those_of_the_table(page, table):
    for caption, before, after in (
        (
            "Expected calibration error of each AU, in per cent: as trained → weights undone",
            "ece",
            "ece_corrected",
        ),
        ("F1 of each AU, in per cent: at 0.5 → tuned on other videos", "f1", "f1_tuned"),
    ):
        header, *lines = page.cells(caption)
        assert header == ["row", *NAMES]
        assert len(lines) == 3
        for row, line in zip((row for row in table.rows if row.measures), lines, strict=True):
            found = [[float(part) / 100 for part in cell.split(" → ")] for cell in line[1:]]
            expected = [[row.measures[name][au] for name in (before, after)] for au in NAMES]
            np.testing.assert_allclose(found, expected, atol=5.01e-4)


def test_figures_say_what_they_show(page, table):
    labels = [svg["aria-label"] for svg in page.all("svg")]
    strong = by_name(table)["strong"]
    assert strong.differs
    (forest,) = (text for text in labels if text.startswith("Differences"))
    found = strong.difference
    said = f"the strong: {found.value:+.3f}, from {found.low:+.3f} to {found.high:+.3f}, more than chance"
    assert said in forest
    assert sum("average precision of AU12: the ours" in text for text in labels) == 1
    assert sum(text.startswith("Learning curves of lost: 1 seed(s), 1 epoch(s)") for text in labels) == 1
    assert {svg["role"] for svg in page.all("svg")} == {"img"}
    for row in table.rows[:3]:
        assert page.source.count(f">{row.f1_per_au['AU1'].value:.2f}<".replace("0.", ".")) >= 1


def test_page_needs_nothing_else(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster", "background"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert all(url.startswith("#") for url in re.findall(r"url\((.*?)\)", attributes.get("style", "")))
    assert not re.search(r"url\(|@import", page.styles[0])
    assert {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "base"} == set()
    assert "http" not in re.sub(r'http-equiv="Content', "", page.source)


def test_only_its_own_script_may_run(page):
    (script,) = page.scripts
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{allowed}'"
    assert rules["img-src"] == "data:"


def test_ids_are_unique_and_references_meet_one(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        values = [
            attributes.get("href", ""),
            attributes.get("clip-path", ""),
            attributes.get("aria-labelledby", ""),
        ]
        for target in re.findall(r"#([\w-]+)", " ".join(values[:2])) + values[2].split():
            assert target in ids


def test_equal_runs_give_equal_bytes(page, sweep, out):
    assert written(out, [sweep]).source == page.source


def test_titles_are_text_whatever_they_hold(tmp_path):
    for number, title in enumerate(NASTY):
        folder = write_run(tmp_path / "sweep", f"row{number}", title=title, reference="row0")
        write_history(folder)
    write_unfinished(tmp_path / "sweep", "failed", failed="</script><img src=x onerror=alert(1)>")
    page = written(tmp_path, [tmp_path / "sweep"])
    table = read_table(tmp_path / "sweep")
    assert len(page.scripts) == 1
    assert not page.all("img")
    assert not page.all("b")
    assert [line[0] for line in page.cells("Result")[1:]] == [row.title for row in table.rows]
    assert [row.title for row in table.rows if row.f1] == [" ".join(title.split()) for title in NASTY]
    assert "failed: </script><img src=x onerror=alert(1)>" in [line[1] for line in page.cells("Runs")]
    assert page.text.count(NASTY[0]) > 5  # tables, legends, captions, and axes of figures
    assert "$5 & 50% of" in page.text


def test_names_of_videos_are_text(tmp_path):
    arrays = predictions("ours")
    arrays["video"] = np.array([f"<i>{name}</i>" for name in arrays["video"]])
    write_run(tmp_path / "sweep", "ours", arrays=arrays)
    page = written(tmp_path, [tmp_path / "sweep"])
    assert page.cells("The worst videos of the ours")[1][0].startswith("<i>v")
    assert not page.all("i")


def test_worst_videos(page, sweep):
    header, *lines = page.cells("The worst videos of the ours")
    assert header[:3] == ["video", "frames", "the ours"]
    expected = {}
    for video in np.unique(predictions("ours")["video"]):
        of_seeds = []
        for seed in (0, 1):
            arrays = predictions("ours", seed, skill=0.8)
            here = arrays["video"] == video
            of_aus = []
            for y, logit in zip(arrays["labels"][here].T, arrays["logits"][here].T, strict=True):
                if (y == 1).any():
                    of_aus.append(f1_score(y[y >= 0], logit[y >= 0] >= 0))
            of_seeds.append(np.mean(of_aus))
        expected[video] = np.mean(of_seeds)
    worst = sorted(expected, key=expected.get)[:10]
    assert [float(line[2]) for line in lines] == pytest.approx([expected[video] for video in worst], abs=5e-4)
    assert {line[0] for line in lines} == set(worst)
    assert {line[1] for line in lines} == {"12"}


def test_data_and_provenance(page):
    assert page.cells("Splits of affwild2")[1:] == [
        ["train", "20", "480", "nothing"],
        ["val", "16", "192", "7 -1"],
    ]
    header, au1, au2, _ = page.cells("Frames in which each AU is present")
    assert header == ["AU", "name", "train: present", "train: share", "val: present", "val: share"]
    assert au1 == ["AU1", "inner brow raiser", "9", "1.88%", "3", "1.56%"]
    assert au2[2:4] == ["0", "never labelled"]
    assert "abc1234" in page.text
    assert "torch 2.6.0" in page.text
    assert "cores 2; system Linux" in page.text
    assert described({"gpus": [], "cores": 2, "fast": ["a", "b"]}) == "gpus none; cores 2; fast a, b"


def test_the_command_says_what_it_does_and_how_to_repeat_it(sweep, tmp_path, capsys):
    out = tmp_path / "a page.html"
    main(["report", str(sweep), "-o", str(out), "--reference", "strong"])
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("no pictures: the faces of affwild2 are left out")
    assert re.fullmatch(r"written: .*a page\.html \(0\.\d MB\)\n", said.out)
    text = Page(out.read_text()).text
    assert shlex.join(["aunet", "table", str(sweep), "--reference", "strong"]) in text
    assert shlex.join(["aunet", "report", str(sweep), "--reference", "strong", "-o", str(out)]) in text
    assert "difference: to the strong, over the seeds that both have" in text


def test_pictures_of_licensed_data_stay_out_unless_asked_for(page, sweep, tmp_path):
    assert not page.all("img")
    assert "the faces of affwild2 are left out" in page.text
    asked = written(tmp_path, [sweep], faces=True)
    assert "There are no pictures:" in asked.text
    assert "is no finished run: config.yaml is missing" in asked.text
    assert asked.cells("Result") == page.cells("Result")


def some_gallery(size):
    """One with pictures of so many bytes."""
    some = [Example(0.9, f"video {i}", "data:," + "x" * size) for i in range(3)]
    return Gallery(title="the ours", size=(10, 10), aus=[[some] * len(KINDS)] * len(AUS))


@pytest.fixture
def drawn(sweep, table, monkeypatch):
    """Tables and figures, drawn once for all pages of a test; returns what sets the pictures' size."""
    contents = report.contents(table, rows_of(sweep), [])
    monkeypatch.setattr(report, "read_table", lambda *_, **__: table)
    monkeypatch.setattr(report, "contents", lambda *_: contents)
    return lambda size: monkeypatch.setattr(report, "make_gallery", lambda *_: some_gallery(size))


def test_large_galleries_are_cut_and_the_page_says_so(drawn, sweep, tmp_path):
    for size, left in ((10, 3), (150_000, 2), (300_000, 1), (10**6, 0)):
        drawn(size)
        found = write_report([sweep], tmp_path / "report.html")
        assert found.size == (tmp_path / "report.html").stat().st_size < 5_000_000
        page = Page((tmp_path / "report.html").read_text())
        assert len(page.all("img")) == left * len(KINDS) * len(AUS)
        said = f"{left} instead of 3 frames of each kind are shown, so that the page stays below 5 MB"
        assert found.remarks == ([said] if left < 3 else [])
        assert (said in page.text) == (left < 3)


def test_too_large_a_page_is_refused(drawn, sweep, tmp_path, monkeypatch):
    drawn(10)
    monkeypatch.setattr(report, "LARGEST", 1000)
    with pytest.raises(RunError, match="more than 5: report fewer rows"):
        write_report([sweep], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_one_row_of_one_seed_and_one_video(tmp_path):
    arrays = predictions("alone", groups=1)
    arrays["video"] = arrays["group"]
    write_run(tmp_path / "sweep", "alone", groups=1, arrays=arrays, provenance={})
    page = written(tmp_path, [tmp_path / "sweep"])
    assert "No two rows were compared" in page.text
    assert "No run has left a history.csv" in page.text
    assert "No run folder tells what its splits hold" in page.text
    assert len(page.cells("Result")) == 2


def test_several_sweeps_on_one_page(tmp_path):
    for sweep in ("one", "two"):
        write_run(tmp_path / sweep, "ours")
        write_run(tmp_path / sweep, "b", skill=2.0)
    page = written(tmp_path, [tmp_path / "one", tmp_path / "two"])
    table = read_table([tmp_path / "one", tmp_path / "two"])
    assert [line[0] for line in page.cells("Runs")[1:]] == [row.title for row in table.rows]
    assert page.cells("Result")[1:] == shown_parts(table)[0][2]
    assert "<title>one, two – aunet report</title>" in page.source


def test_what_cannot_be_reported(tmp_path, sweep):
    def stopped(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["report", *map(str, arguments), "-o", str(tmp_path / "report.html")])
        return str(caught.value.code)

    assert "holds no sweep" in stopped(tmp_path)
    write_unfinished(tmp_path / "begun", "ours", failed="no data")
    assert "no run has finished, and there is nothing to report" in stopped(tmp_path / "begun")
    assert "there is no row 'c' to compare with" in stopped(sweep, "--reference", "c")
    nowhere = write_run(tmp_path / "nowhere", "ours", arrays={"frame": None})
    assert f"{nowhere / 'predictions.npz'}: not readable" in stopped(tmp_path / "nowhere")
    damaged = write_run(tmp_path / "damaged", "ours")
    write_history(damaged, ["?"])
    assert f"{damaged / 'history.csv'}: not the history of a run" in stopped(tmp_path / "damaged")
    (damaged / "history.csv").unlink()
    (damaged / "provenance.json").write_text('{"splits": {"val": {"videos": 3, "frames": 9}}}')
    assert str(damaged / "provenance.json") in stopped(tmp_path / "damaged")
    with pytest.raises(FileNotFoundError, match="missing is no folder"):
        write_report([sweep], tmp_path / "missing" / "report.html")
    assert not list(tmp_path.glob("*.html"))


def test_rows_that_are_drawn(table):
    assert [row.name for row in shown_rows(table)] == ["ours", "strong", "weak"]
    assert [row.name for row in shown_rows(table, 2)] == ["ours", "strong"]


@pytest.mark.parametrize(
    ("references", "drawn"),
    [
        ((None, None, None), ["best", "good", "bad"]),
        (("good", "good", "good"), ["good", "best", "bad"]),
        (("good", "best", None), ["good", "best", "bad"]),  # of equally many, the first in the table
        (("lost", "lost", "bad"), ["bad", "best", "good"]),
    ],
)
def test_first_of_the_drawn_rows_is_what_most_are_compared_with(references, drawn):
    rows = [
        SimpleNamespace(name=name, f1=SimpleNamespace(value=value), reference=reference)
        for name, value, reference in zip(("good", "best", "bad"), (0.5, 0.6, 0.1), references, strict=True)
    ]
    lost = SimpleNamespace(name="lost", f1=None, reference=None)
    assert [row.name for row in shown_rows(SimpleNamespace(rows=[lost, *rows]))] == drawn


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("0.6424", "0.6424"), ("0.556–0.723", "0.556"), ("+0.0147*", "+0.0147"), ("-0.1", "-0.1"),
        ("<0.001", "0.001"), ("2 of 3", "2"), ("12.3 → 4.5", "12.3"), ("7x7", ""), ("7 rows of -1", ""),
        ("–", ""), ("failed", ""),
    ],
)  # fmt: skip
def test_figures_are_sorted_as_numbers(cell, number):
    assert sort_key(cell) == number


frames = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.505, 0.75, 1.0]), min_size=n, max_size=n),
        st.lists(st.sampled_from([-1, 0, 0, 1, 1]), min_size=n, max_size=n),
    )
)


@settings(max_examples=60, deadline=None)
@given(frames)
def test_threshold_curve_is_f1_at_each_threshold(some):
    probs, labels = np.array(some[0], np.float32)[:, None], np.array(some[1], np.int8)[:, None]
    (ranking,) = rankings(probs, labels)
    expected = [f1_per_au(confusion_counts(probs, labels, np.float32(t)))[0] for t in THRESHOLDS]
    np.testing.assert_allclose(f1_curve(ranking), expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(frames)
def test_precision_curve_agrees_with_scikit_learn(some):
    probs, labels = np.array(some[0], np.float32)[:, None], np.array(some[1], np.int8)[:, None]
    (ranking,) = rankings(probs, labels)
    known = labels[:, 0] >= 0
    found = precision_curve(ranking)
    if not (labels == 1).any():
        assert np.isnan(found).all()
        return
    precision, recall, _ = precision_recall_curve(labels[known, 0], probs[known, 0], drop_intermediate=False)
    precision, recall = (
        precision[:-1][::-1],
        recall[:-1][::-1],
    )  # without the point at no detection; rising recall
    expected = [precision[np.flatnonzero(recall >= r - 1e-9)[0]] for r in RECALLS]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_curves_meet_the_table_at_half(sweep, table):
    cells = rows_of(sweep)
    for name in ("ours", "strong", "weak"):
        curves, row = read_curves(cells[name]), by_name(table)[name]
        expected = [f1.value for f1 in row.f1_per_au.values()]
        np.testing.assert_allclose(curves.f1[np.flatnonzero(THRESHOLDS == 0.5)[0]], expected, atol=1e-12)
        assert curves.tuned.shape == (5 * len(row.seeds), len(AUS))
        found = np.abs(curves.trained.promised - curves.trained.present).sum(0) / curves.trained.frames.sum(0)
        if len(row.seeds) == 1:
            np.testing.assert_allclose(found, [row.measures["ece"][au] for au in NAMES], atol=1e-9)
        # Its area is the average precision, but for steps of a hundredth.
        area = curves.precision[1:].mean(0)
        np.testing.assert_allclose(area, [row.measures["average_precision"][au] for au in NAMES], atol=0.02)


def test_macro_of_a_video_is_over_the_aus_that_occur():
    labels = np.array([[1, 0, -1], [1, 0, 0], [0, 0, 0]], np.int8)
    probs = np.array([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1], [0.9, 0.1, 0.1]])
    found = macro_of_videos(video_counts(probs, labels, np.array([0, 0, 1])))
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])


def test_surest_frames_of_each_kind_come_from_different_videos():
    rng = np.random.default_rng(0)
    probs, labels = rng.random(200).round(2), rng.integers(-1, 2, 200).astype(np.int8)
    group = rng.choice(list("abcdefgh"), 200)
    for _, present, detected in KINDS:
        found = most_confident(probs, labels, group, present, detected, 5)
        assert len(found) == 5
        assert len(set(group[found])) == 5
        assert (labels[found] == present).all()
        assert ((probs[found] >= 0.5) == detected).all()
        sure = np.abs(probs - 0.5)
        assert (np.diff(sure[found]) <= 0).all()
        of_kind = (labels == present) & ((probs >= 0.5) == detected)
        best = sorted((sure[of_kind & (group == name)].max() for name in set(group[of_kind])), reverse=True)[
            :5
        ]
        np.testing.assert_array_equal(sure[found], best)
    assert most_confident(probs, np.full(200, -1, np.int8), group, True, True, 5) == []
