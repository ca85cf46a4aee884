"""How far a sweep is, as a user sees it: the grid, reasons, time left; once, or live on a terminal."""

import functools
import io
import json
import re
import time

import pytest
from rich.console import Console
from run_folders import write_run, write_unfinished

from aunet import status
from aunet.cells import Cell, State, plan
from aunet.cli import main
from aunet.locks import locked
from aunet.runs import RunError
from aunet.status import find_sweeps, grid, totals, view, watch

PROGRESS = {"epoch": 2, "epochs": 8, "done": 0.304, "f1": 0.41, "seconds_left": 700.0}


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def shown(renderable, width=160):
    console = Console(width=width, file=io.StringIO(), markup=False)
    console.print(renderable)
    return console.file.getvalue()


def words(text):
    """The cells of a table's lines."""
    lines = [re.split("[│┃]", line) for line in text.splitlines() if line[:1] in ("│", "┃")]
    return [[word.strip() for word in line[1:-1]] for line in lines]


def cell(row, seed, state=State.WAITING, **changes):
    return Cell(None, row, seed, row, state, **changes)


def running(left, seed=0):
    return cell("r", seed, State.RUNNING, progress=PROGRESS | {"seconds_left": left})


def done(seconds, seed=0):
    return cell("d", seed, State.DONE, metrics={"val/f1": 0.5, "training_seconds": seconds})


def write_progress(folder, **changes):
    (folder / "progress.json").write_text(json.dumps(PROGRESS | changes))


def test_the_grid_says_how_far_each_run_is():
    cells = [
        cell("a", 0, State.DONE, metrics={"val/f1": 0.48034, "training_seconds": 1.0}),
        cell("a", 1, State.RUNNING, progress=PROGRESS),
        cell("b", 0, State.RUNNING),
        cell("b", 1, State.INTERRUPTED, reason="?", progress=PROGRESS | {"epoch": 8, "f1": None}),
        cell("c", 0, State.FAILED, reason="?", progress=PROGRESS),
        cell("c", 2),
    ]
    assert words(shown(grid(cells))) == [
        ["row", "seed 0", "seed 1", "seed 2"],
        ["a", "done 0.4803", "running, epoch 3/8 30%, F1 0.4100, 12 min left", ""],
        ["b", "running", "interrupted, epoch 8/8 30%", ""],
        ["c", "failed", "", "waiting"],
    ]


@pytest.mark.parametrize(
    ("rows", "seeds", "corner"),
    [(1, 4, "row"), (1, 5, "seed"), (5, 5, "row"), (5, 6, "seed"), (8, 3, "row")],
)
def test_many_seeds_of_few_rows_go_down_the_page(rows, seeds, corner):
    cells = [cell(f"row{r}", 10 * s) for r in range(rows) for s in range(seeds)]
    table = words(shown(grid(cells)))
    assert table[0][0] == corner
    down, across = (seeds, rows) if corner == "seed" else (rows, seeds)
    assert (len(table), {len(line) for line in table}) == (1 + down, {1 + across})
    if corner == "seed":
        assert [line[0] for line in table[1:]] == [str(10 * s) for s in range(seeds)]
        assert table[0][1:] == [f"row{r}" for r in range(rows)]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([done(60), cell("a", 0)], "1 waiting, 1 done"),
        ([running(80.0)], "1 running; about 80 s left"),
        # Two places: what is left of the two, and a run of the mean of 100 s and 200 s.
        (
            [running(80.0), running(70.0, 1), cell("a", 0), done(100.0), done(200.0, 1)],
            "1 waiting, 2 running, 2 done; about 2 min left",
        ),
        (
            [running(80.0), running(20.0, 1), cell("a", 0), done(60)],
            "1 waiting, 2 running, 1 done; about 80 s left",
        ),
        # The shorter run's place helps the longer one nothing.
        ([running(1000.0), running(10.0, 1)], "2 running; about 17 min left"),
        ([running(7000.0)], "1 running; about 1.9 h left"),
        ([running(80.0), running(None, 1)], "2 running"),
        ([running(80.0), cell("a", 0)], "1 waiting, 1 running"),  # no run has told how long one takes
        ([running(0.0), done(50)], "1 running, 1 done; about 0 s left"),
        ([cell("f", 0, State.FAILED), cell("i", 0, State.INTERRUPTED)], "1 interrupted, 1 failed"),
        ([], ""),
    ],
)
def test_time_left(cells, said):
    assert totals(cells) == said


def test_a_running_run_without_progress_gives_no_estimate():
    assert totals([cell("r", 0, State.RUNNING), done(50)]) == "1 running, 1 done"


@pytest.fixture
def sweep(tmp_path):
    """One run of each kind that no process is at."""
    folder = tmp_path / "runs" / "table [1]"
    write_run(folder, "ours")
    failed = write_unfinished(folder, "resnet50", failed="lr is [too] high")
    (failed / "train.log").touch()
    write_progress(write_unfinished(folder, "ours", 1))
    plan(folder, {("vgg16", 0): {"title": "t", "reference": "ours"}})
    return folder


def test_reasons_are_told_in_full_with_the_log(sweep):
    text = shown(view([sweep]))
    assert text.splitlines()[0].rstrip() == str(sweep)
    assert f"resnet50 seed 0 failed: lr is [too] high (log: {sweep}/resnet50/seed0/train.log)" in " ".join(
        text.split()
    ).replace("/ ", "/")
    assert "ours seed 1 interrupted: its process ended without a word" in text
    assert text.rstrip().endswith("1 waiting, 1 interrupted, 1 failed, 1 done")


def test_sweeps_are_found_by_their_folder_or_the_one_above(sweep, tmp_path):
    runs = tmp_path / "runs"
    plan(runs / "planned", {("a", 0): {"title": "t", "reference": "ours"}})
    (runs / "bench").mkdir()
    (runs / "table.md").touch()
    assert find_sweeps([sweep]) == [sweep]
    assert find_sweeps([str(runs)]) == [runs / "planned", sweep]
    assert find_sweeps([runs / "planned", sweep]) == [runs / "planned", sweep]
    for nothing in (runs / "bench", tmp_path / "missing", runs / "table.md", sweep / "ours"):
        with pytest.raises(RunError, match=f"{re.escape(str(nothing))} holds no sweep"):
            find_sweeps([sweep, nothing])


def test_once_where_there_is_no_terminal(sweep, capsys, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with locked(sweep / "vgg16" / "seed0"):
        watch([sweep])
    printed = capsys.readouterr().out
    assert printed.count("resnet50 seed 0 failed") == 1
    assert "1 running, 1 interrupted, 1 failed, 1 done" in printed
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 100


@pytest.fixture
def live(monkeypatch):
    """A terminal, and what happens while the command waits: ``live.then`` gives it; returns what is shown."""
    screen = io.StringIO()
    monkeypatch.setattr(status, "Console", functools.partial(Console, force_terminal=True, file=screen))
    screen.sleeps = []
    screen.then = lambda: None

    def sleep(seconds):
        screen.sleeps.append(seconds)
        assert sum(screen.sleeps) < 600, "it does not end"
        screen.then()

    monkeypatch.setattr(time, "sleep", sleep)
    return screen


def test_live_on_a_terminal_until_no_run_is_left(live, tmp_path):
    sweep = tmp_path / "s"
    write_run(sweep, "a")
    holder = locked(sweep / "b" / "seed0")
    holder.__enter__()

    def then():
        if len(live.sleeps) == 3:
            holder.__exit__(None, None, None)
            (sweep / "b" / "seed0" / "metrics.json").write_text((sweep / "a/seed0/metrics.json").read_text())

    live.then = then
    watch([sweep])
    assert live.sleeps == [2.0] * 3
    text = live.getvalue()
    assert text.index("1 running, 1 done") < text.index("2 done")


def test_between_two_runs_it_waits_for_the_next(live, tmp_path):
    sweep = tmp_path / "s"
    plan(sweep, {("next", 0): {"title": "t", "reference": "ours"}})
    holder = locked(sweep / "a" / "seed0")
    holder.__enter__()
    live.then = lambda: len(live.sleeps) == 1 and holder.__exit__(None, None, None)
    watch([sweep], seconds=5.0)
    assert sum(live.sleeps) == status.SECONDS_BETWEEN_RUNS


def test_once_on_a_terminal_where_nothing_is_at_work(live, sweep):
    watch([sweep])
    assert live.sleeps == []
    assert "resnet50 seed 0 failed" in live.getvalue()


def test_interrupting_it_is_no_error(live, sweep):
    def then():
        raise KeyboardInterrupt

    live.then = then
    with locked(sweep / "vgg16" / "seed0"):
        watch([sweep])
    assert len(live.sleeps) == 1


def test_progress_that_disappears_between_two_looks(live, tmp_path):
    sweep = tmp_path / "s"
    folder = write_unfinished(sweep, "a")
    write_progress(folder)
    with locked(folder):

        def then():
            (folder / "progress.json").unlink(missing_ok=True)
            if len(live.sleeps) == 2:
                raise KeyboardInterrupt

        live.then = then
        watch([sweep])
    assert "epoch 3/8 30%" in live.getvalue()


def stopped(*arguments):
    """The sentence with which the command ends."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, str)
    assert caught.value.code.startswith("aunet: ")
    assert "\n" not in caught.value.code
    return caught.value.code


def test_command(sweep, capsys):
    main(["status", str(sweep)])
    printed = capsys.readouterr().out
    assert "1 waiting, 1 interrupted, 1 failed, 1 done" in printed
    main(["status", str(sweep.parent)])
    assert capsys.readouterr().out == printed


def test_command_says_in_a_sentence_what_is_wrong(sweep, tmp_path):
    for nothing in (tmp_path / "missing", tmp_path):
        assert f"{nothing} holds no sweep (expected <row>/seed<k>/, or sweep.json)" in stopped(
            "status", nothing
        )
    progress = sweep / "ours" / "seed1" / "progress.json"
    progress.write_text("{}")
    assert str(progress) in stopped("status", sweep)
    progress.unlink()
    metrics = sweep / "ours" / "seed0" / "metrics.json"
    metrics.write_text("{}")
    assert f"{metrics}: lacks val/f1, training_seconds" in stopped("status", sweep)
    metrics.unlink()
    (sweep / "sweep.json").write_text("[")
    assert str(sweep / "sweep.json") in stopped("status", sweep)
