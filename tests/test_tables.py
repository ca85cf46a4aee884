"""A table in each format: every row and figure is there, nothing is cut, and each format reads back."""

import csv
import functools
import io
import json
import re
import shutil
import subprocess
from dataclasses import asdict

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from run_folders import predictions, write_run

from aunet.columns import MEASURES, au_cells, measure_cells, notes, result_cells, shown_parts
from aunet.config import CONF
from aunet.facs import AFFWILD2, au_column
from aunet.results import TABLE1, read_table
from aunet.rows import Row, Table
from aunet.statistics import Difference, Estimate
from aunet.tables import TEXT, as_csv, as_json, latex, markdown, print_table, terminal, write_table

AUS = [au_column(au) for au in AFFWILD2]
NASTY = r"100% of |a| & b_c [x] {y} $z# ~^ <1> back\slash, 2 × 2 ± é"


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def estimate(value):
    return Estimate(value, value - 0.0321, min(1.0, value + 0.0298), 0.0153)


def row(name, title, value=0.4, aus=AUS, difference=None, p=None, **changes):
    """A row with a figure of its own in each place."""
    facts = {
        "seeds": [0, 1, 2], "unfinished": {}, "spread": 0.0123, "paper_f1": 0.4803, "epochs": 8,
        "starts": "from scratch", "seconds": 12345.6, "parameters": 138_357_544, "flops": 15_470_264_320,
    }  # fmt: skip
    return Row(
        name,
        title,
        f1=estimate(value),
        f1_per_au={au: estimate(value + number / 1000 / 3) for number, au in enumerate(aus)},
        measures={
            measure: {"macro": value - number / 700, **dict.fromkeys(aus, value / 3)}
            for number, measure in enumerate(MEASURES)
        }
        | {"mcc": {"macro": -0.1234, **dict.fromkeys(aus)}},
        difference=difference
        and Difference(difference, difference - 0.01, difference + 0.01, 0.005, 0.002, 0.04),
        p_corrected=p,
        seeds_compared=3,
        **facts | changes,
    )


def unfinished(name, title, reason="failed: lr is [too] high & the loss_1 is 100% NaN"):
    return Row(name, title, [], {0: reason, 1: "waiting", 2: "running"})


@pytest.fixture(scope="module")
def table():
    """The rows of Table 1 under their real titles; some negative, failed, and partly finished."""
    experiments = CONF / "experiment" / "table1"
    titles = {name: OmegaConf.load(experiments / f"{name}.yaml").title for name in TABLE1}
    rows = [
        row(name, title, 0.31 + 0.0123 * n, difference=-0.123456, p=0.0149)
        for n, (name, title) in enumerate(titles.items())
    ]
    rows[1] = unfinished("resnet50", titles["resnet50"])
    rows[2] = row("inception_v3", titles["inception_v3"], 0.97, difference=0.05, p=0.0001, paper_f1=None)
    rows[3] = row(
        "efficientnet", titles["efficientnet"], seeds=[2], spread=None, starts="pre-trained, frozen",
        flops=None, unfinished={0: "interrupted: its process ended without a word", 1: "failed: no"},
    )  # fmt: skip
    rows[7] = row("ours", titles["ours"], 1 / 3)
    for one in rows:
        one.reference = "ours"
    return Table(rows, AUS, "affwild2", 105, {"every AU present": 0.1234, "random": 0.0567}, {"runs": 20})


def changed(table, **changes):
    return Table(**{field: getattr(table, field) for field in table.__dataclass_fields__} | changes)


def printed(table, capsys):
    print_table(table)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def assert_complete(text, table):
    """All figures of a row stand whole, beside each other, on the first line of its title."""
    assert max(map(len, text.splitlines())) <= 100
    for title, _, body in shown_parts(table):
        part = text[text.index(title) :]
        for first, *figures in body:
            line = (
                r"^ *"
                + re.escape(first.split()[0])
                + r".*?\s"
                + r"\s+".join(map(re.escape, figures))
                + r" *$"
            )
            assert re.search(line, part, re.MULTILINE), (first, figures)
    flat = " ".join(text.split())
    for note in notes(table):
        assert f"- {note}" in flat


def test_cells_of_the_result(table):
    header, body = result_cells(table)
    assert header == ["row", "F1", "± seeds", "95% interval", "difference", "p", "paper", "seeds"]
    baseline, resnet, inception, efficientnet, *_, ours = body
    assert baseline == [
        "Baseline (VGG16, frozen)", "0.3100", "0.0123", "0.278–0.340", "-0.1235*", "0.015", "0.4803", "3",
    ]  # fmt: skip
    assert resnet == ["Ours with ResNet50", "failed", "–", "–", "–", "–", "–", "0 of 3"]
    assert inception[4:7] == ["+0.0500*", "<0.001", "–"]
    assert (efficientnet[2], efficientnet[7]) == ("–", "1 of 3")
    assert ours[1:6] == ["0.3333", "0.0123", "0.301–0.363", "–", "–"]


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (["waiting", "failed: x", "running"], "failed"),
        (["running", "interrupted: x"], "interrupted"),
        (["waiting", "running"], "running"),
        (["waiting"], "waiting"),
    ],
)
def test_of_unfinished_seeds_the_state_that_needs_attention_is_shown(states, shown):
    lost = Row("a", "a", [], dict(enumerate(states)))
    assert result_cells(Table([lost]))[1][0][1] == shown


@pytest.mark.parametrize(
    ("difference", "p", "starred"),
    [(0.02, 0.049, True), (0.02, 0.05, False), (0.005, 0.01, False), (-0.02, 0.01, True)],
)
def test_a_star_needs_test_and_interval(difference, p, starred):
    body = result_cells(Table([row("a", "a", difference=difference, p=p)]))[1]
    assert body[0][4].endswith("*") == starred


def test_cells_of_single_aus_and_measures(table):
    header, body = au_cells(table)
    assert header == ["row", *AUS]
    assert body[0][1:4] == ["31.0", "31.0", "31.1"]
    assert body[1][1:] == ["–"] * 12
    header, body = measure_cells(table)
    assert header == ["row", *MEASURES.values()]
    assert body[0][1:3] == ["0.310", "0.309"]
    assert body[0][header.index("MCC")] == "-0.123"


def test_fits_where_the_output_is_no_terminal(table, capsys):
    text = printed(table, capsys)
    assert "\x1b" not in text
    assert_complete(text, table)


@pytest.mark.parametrize("columns", ["60", "80", "100"])
def test_fits_on_a_terminal_and_a_narrow_one_cuts_no_figure(columns, table, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    assert_complete(printed(table, capsys), table)


def test_parts_fit_into_100_columns_by_themselves(table):
    console = Console(width=100, force_terminal=True, no_color=True, file=io.StringIO())
    for part in terminal(table):
        assert console.measure(part).maximum <= 100
        console.print(part)
    text = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    for _, _, body in shown_parts(table):
        for line in body:
            assert all(figure in text for figure in line[1:])


def test_more_aus_than_fit_go_to_a_further_table(table, capsys):
    aus = [f"AU{number}" for number in range(1, 31)]
    lost = unfinished("b", table.rows[1].title)
    many = changed(table, aus=aus, rows=[row("a", table.rows[7].title, 0.9, aus), lost])
    text = printed(many, capsys)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("F1 of each AU, in per cent, continued") == 2
    assert [word for word in text.split() if re.fullmatch(r"AU\d+", word)] == aus
    figures = au_cells(many)[1][0][1:]
    assert len(figures) == 30
    shown = re.findall(r"\b9\d\.\d\b", text[text.index("F1 of each AU") : text.index("Cost")])
    assert shown == figures


def test_titles_are_taken_as_they_are(capsys):
    table = Table([row("a", "[bold]:smile: [/] " + NASTY)], AUS, "set [x]", 50)
    text = " ".join(printed(table, capsys).split())
    assert "[bold]:smile: [/]" in text
    assert "data set" not in text
    assert "frames of set [x]" in text


def markdown_tables(text):
    """Title and lines of cells of each table."""
    found = {}
    for line in text.splitlines():
        if line.startswith("**"):
            title = line.strip("*")
            found[title] = []
        elif line.startswith("|"):
            found[title].append([c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def test_markdown_reads_back(table):
    rows = [row("n", NASTY, 0.5), *table.rows]
    found = markdown_tables(markdown(changed(table, rows=rows)))
    assert list(found) == ["Result", "Measures, mean over the AUs", "F1 of each AU, in per cent", "Cost"]
    for title, header, body in shown_parts(changed(table, rows=rows)):
        assert found[title][0] == header
        assert found[title][1] == ["---"] + ["---:"] * (len(header) - 1)
        assert found[title][2:] == body
    assert markdown(table).endswith("".join(f"- {note}\n" for note in notes(table)))


def test_csv_reads_back(table):
    read = list(csv.DictReader(io.StringIO(as_csv(table), newline="")))
    assert [line["name"] for line in read] == [r.name for r in table.rows]
    for line, r in zip(read, table.rows, strict=True):
        assert line["title"] == r.title
        assert [int(seed) for seed in line["seeds"].split()] == r.seeds
        assert line["unfinished"] == "; ".join(f"seed {s}: {why}" for s, why in r.unfinished.items())
        assert line["differs"] == str(r.differs)
        for key in ("spread", "p_corrected", "paper_f1", "parameters", "flops", "seconds"):
            value = getattr(r, key)
            assert line[key] == ("" if value is None else repr(value))
        for key, found in (("f1", r.f1), ("difference", r.difference)):
            names = asdict(found) if found else {"value": "", "low": "", "high": "", "error": ""}
            for name, value in names.items():
                assert line[key if name == "value" else f"{key}_{name}"] == str(value)
        for au in AUS:
            assert line[f"f1_{au}"] == (repr(r.f1_per_au[au].value) if r.seeds else "")
        for measure, values in r.measures.items():
            if measure != "f1":
                for name, value in values.items():
                    found = line[measure if name == "macro" else f"{measure}_{name}"]
                    assert found == ("" if value is None else repr(value))


def strictly(text):
    """What JSON itself knows, which is neither NaN nor Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_json_holds_everything_with_nothing_rounded(table):
    read = strictly(as_json(table))
    expected = asdict(table)
    for content, r in zip(expected["rows"], table.rows, strict=True):
        content["unfinished"] = {str(seed): why for seed, why in r.unfinished.items()}
        content["differs"] = r.differs
    assert read == expected | {"notes": notes(table)}
    assert read["rows"][7]["f1"]["value"] == 1 / 3
    assert sum(r["differs"] for r in read["rows"]) == 5


def test_nan_never_reaches_json(tmp_path):
    labels = predictions("a")["labels"].copy()
    labels[:, 1] = -1  # nobody knows the AU, neither here nor in training
    rates = [0.5, float("nan"), 0.4]
    write_run(
        tmp_path / "s", "a", arrays={"labels": labels}, training_rates=rates, pos_weight=[2.0, 1.0, 3.0]
    )
    table = read_table(tmp_path / "s", resamples=200)
    (found,) = strictly(as_json(table))["rows"]
    assert found["measures"]["roc_auc"]["AU2"] is None
    assert found["measures"]["ece_corrected"]["AU2"] is None
    assert not any(re.search(r"\bnan\b", write(table), re.IGNORECASE) for write in TEXT.values())
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(changed(table, trivial={"x": float("nan")}))


def test_all_formats_are_written_at_once(table, tmp_path):
    files = write_table(tmp_path / "new" / "folder", table)
    assert [file.name for file in files] == ["table.md", "table.csv", "table.json", "table.tex"]
    assert sorted(files) == sorted((tmp_path / "new" / "folder").iterdir())
    for file, write in zip(files, TEXT.values(), strict=True):
        with file.open(newline="") as content:
            assert content.read() == write(table)


def test_a_table_without_a_finished_run_says_why(capsys):
    table = Table([unfinished("a", "first"), unfinished("b", "second", "interrupted")])
    for text in (*(write(table) for write in TEXT.values()), printed(table, capsys)):
        assert "first" in text
        assert "second" in text
        assert "failed" in text
    assert [title for title, _, _ in shown_parts(table)] == ["Result", "Cost"]
    assert notes(table) == [
        "first, seed 0: failed: lr is [too] high & the loss_1 is 100% NaN",
        "first, seed 1: waiting",
        "first, seed 2: running",
        "second, seed 0: interrupted",
        "second, seed 1: waiting",
        "second, seed 2: running",
    ]


def test_an_empty_table_can_be_written(tmp_path, capsys):
    write_table(tmp_path, Table([]))
    assert strictly((tmp_path / "table.json").read_text())["rows"] == []
    assert (tmp_path / "table.csv").read_text().strip() == "name"
    assert "Result" in printed(Table([]), capsys)


def said(table):
    return "\n".join(notes(table))


def test_notes_say_what_the_reader_must_know(table):
    assert notes(table)[:5] == [
        "Ours with ResNet50, seed 0: failed: lr is [too] high & the loss_1 is 100% NaN",
        "Ours with ResNet50, seed 1: waiting",
        "Ours with ResNet50, seed 2: running",
        "Ours with EfficientNet-B0, seed 0: interrupted: its process ended without a word",
        "Ours with EfficientNet-B0, seed 1: failed: no",
    ]
    text = said(table)
    assert "trivial predictor, every AU present: F1 0.1234\ntrivial predictor, random: F1 0.0567" in text
    assert "measured on the validation frames of affwild2, 105 videos or people" in text
    assert "paper: as reported there for Aff-Wild2's validation set (one run each), not measured here" in text
    ours = "Ours (custom CNN, attention, re-weighted loss)"
    assert f"difference: to {ours}, over the seeds that both have" in text
    assert "corrected for 5 tests (Holm); *: several seeds, p < 0.05, and 0 lies outside" in text
    assert "four times in five: 0.040 to 0.040" in text
    assert (
        f"no difference to {ours}, which has finished none of their seeds: Ours with EfficientNet-B0" in text
    )
    assert "rows of one seed: the test speaks of these trained networks" in text
    assert "F1 tuned: each AU's threshold from the other four fifths" in text


def test_notes_leave_out_what_is_not_in_the_table(table):
    rows = [row("a", "a", paper_f1=None, reference=None)]
    found = said(Table(rows, AUS, "rendered", 105))
    for absent in ("paper", "one seed", "difference", "few", "trivial", "seed 0"):
        assert absent not in found
    rows[0].measures = {}
    assert "F1 tuned" not in said(Table(rows, AUS, "rendered", 105))


@pytest.mark.parametrize(("groups", "few"), [(1, True), (39, True), (40, False)])
def test_few_videos_deserve_a_note(groups, few, table):
    note = f"{groups} videos or people are few: intervals may cover less than 95%"
    assert (note in notes(changed(table, groups=groups))) == few


def test_of_several_references_each_is_told_with_its_rows():
    rows = [
        row("a", "A", reference="none_a", difference=0.1, p=0.01),
        row("b", "B", reference="none_a", difference=0.1, p=0.01),
        row("c", "C", reference="none_c", difference=0.1, p=0.01),
        row("none_a", "No a", reference="none_a"),
        row("none_c", "No c", reference="none_c"),
    ]
    found = said(Table(rows, AUS, "affwild2", 105))
    assert "difference: A, B to No a; C to No c, over the seeds" in found
    assert "corrected for 3 tests" in found


def tex_rows(text):
    """Lines of cells of each tabular in it."""
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.DOTALL)
    return [
        [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in body.splitlines()] for body in bodies
    ]


def test_latex_has_a_cell_for_every_figure(table):
    text = latex(table)
    result, aus = tex_rows(text)
    assert {len(line) for line in result} == {10}
    assert {len(line) for line in aus} == {13}
    assert [line[0] for line in result] == [line[0] for line in aus] == [r.title for r in table.rows]
    assert result[0][1:] == [
        "0.3100", "0.0123", "0.278--0.340", "$-$0.1235*", "0.015", "0.4803", "3", "138.36", "15.47",
    ]  # fmt: skip
    assert result[2][5] == "$<$0.001"
    assert result[1][1:] == ["failed", *["--"] * 5, "0 of 3", "--", "--"]
    columns = re.findall(
        r"\\begin{tabularx}{\\linewidth}{@{}>{\\raggedright\\arraybackslash\\hangindent=1em}X(r*)@{}}", text
    )
    assert [len(found) for found in columns] == [9, 12]
    assert all(f"% {note}" in text.splitlines() for note in notes(table))
    assert r"*: several seeds, p $<$ 0.05, and 0 lies outside the difference's 95\% interval." in text


def test_latex_escapes_what_tex_would_take_for_itself():
    text = latex(Table([row("n", NASTY)], AUS, "my_set", 50))
    title = tex_rows(text)[0][0][0]
    assert title == (
        r"100\% of \textbar{}a\textbar{} \& b\_c {[}x{]} \{y\} \$z\# \textasciitilde{}\textasciicircum{} "
        r"$<$1$>$ back\textbackslash{}slash, 2 × 2 $\pm$ é"
    )
    assert r"\caption{Macro F1 on the validation set of my\_set.}" in text


def test_latex_of_many_aus_makes_several_tables(table):
    aus = [f"AU{number}" for number in range(1, 26)]
    many = changed(table, aus=aus, rows=[row("a", "a", 0.9, aus)])
    assert [len(rows[0]) for rows in tex_rows(latex(many))] == [10, 13, 13, 2]


@functools.cache
def tex_is_installed():
    if shutil.which("pdflatex") is None:
        return False
    found = [
        subprocess.run(["kpsewhich", f"{name}.sty"], check=False, capture_output=True).stdout
        for name in ("booktabs", "tabularx")
    ]
    return all(found)


def test_latex_compiles_and_stays_on_the_page(table, tmp_path):
    if not tex_is_installed():
        pytest.skip("pdflatex with booktabs and tabularx is not installed")
    titles = [OmegaConf.load(file).get("title", "") for file in CONF.glob("experiment/*/*.yaml")]
    rows = [
        *table.rows,
        row("n", NASTY),
        row("m", "[x] first"),
        *(row(t, t, difference=-0.1, p=0.2) for t in titles),
    ]
    body = latex(changed(table, rows=table.rows)) + latex(changed(table, rows=rows[8:30], data="my_set & co"))
    document = (
        "\\documentclass{article}\n\\usepackage{booktabs,tabularx}\n\\begin{document}\n%s\\end{document}\n"
    )
    (tmp_path / "table.tex").write_text(document % body)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "table.pdf").stat().st_size > 0
