"""How far the runs of a sweep are, from real folders: planned, at work, killed, failed, finished, damaged."""

import json
import threading

import pytest
from run_folders import held, write_run, write_unfinished

from aunet import cells
from aunet.cells import Cell, State, plan, read_cells, require
from aunet.locks import locked
from aunet.runs import RunError

PROGRESS = {"epoch": 2, "epochs": 8, "done": 0.3, "f1": 0.41, "seconds_left": 70.0}


def facts(title="in words", reference="ours"):
    return {"title": title, "reference": reference}


def read(sweep):
    """The cells by row and seed."""
    return {(cell.row, cell.seed): cell for cell in read_cells(sweep)}


def write_progress(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "progress.json").write_text(json.dumps(PROGRESS | changes))


def finish(folder):
    """What a run does at its end."""
    (folder / "metrics.json").write_text('{"val/f1": 0.5}')
    (folder / "progress.json").unlink(missing_ok=True)
    (folder / ".owner.json").unlink(missing_ok=True)


def test_states_of_real_folders(tmp_path):
    sweep = tmp_path / "s"
    plan(sweep, {("waiting", 3): facts()})
    write_run(sweep, "done", title="the title of its time")
    write_progress(write_unfinished(sweep, "failed", failed="the disk is full"))
    interrupted = write_unfinished(sweep, "interrupted")
    write_progress(interrupted)
    (interrupted / "train.log").write_text("it began\n")
    (sweep / "nothing" / "seed0").mkdir(parents=True)
    (sweep / "early").mkdir()
    (sweep / "early" / "seed4.failed.json").write_text('{"reason": "no such data"}')
    found = read(sweep)
    assert {run: cell.state for run, cell in found.items()} == {
        ("waiting", 3): State.WAITING,
        ("done", 0): State.DONE,
        ("early", 4): State.FAILED,
        ("failed", 0): State.FAILED,
        ("interrupted", 0): State.INTERRUPTED,
        ("nothing", 0): State.WAITING,
    }
    done = found["done", 0]
    assert done.metrics == json.loads((sweep / "done" / "seed0" / "metrics.json").read_text())
    assert (done.title, done.reason, done.progress) == ("the title of its time", "", None)
    assert (found["failed", 0].reason, found["failed", 0].progress) == ("the disk is full", PROGRESS)
    assert found["early", 4].reason == "no such data"
    killed = found["interrupted", 0]
    assert killed.reason == "its process ended without a word; the same command goes on with it"
    assert (killed.progress, killed.metrics) == (PROGRESS, None)
    assert (killed.folder, killed.log) == (interrupted, interrupted / "train.log")
    assert found["waiting", 3] == Cell(sweep, "waiting", 3, "in words", State.WAITING)
    assert found["waiting", 3].log is None


def test_a_living_process_is_at_work_and_a_killed_one_is_not(tmp_path):
    folder = write_unfinished(tmp_path / "s", "a", failed="of the attempt before")
    write_progress(folder)
    with held(folder) as process:
        (cell,) = read_cells(tmp_path / "s")
        assert (cell.state, cell.progress, cell.reason) == (State.RUNNING, PROGRESS, "")
        process.kill()
        process.wait()
        (cell,) = read_cells(tmp_path / "s")
        assert (cell.state, cell.reason) == (State.FAILED, "of the attempt before")
        (tmp_path / "s" / "a" / "seed0.failed.json").unlink()
        assert read_cells(tmp_path / "s")[0].state is State.INTERRUPTED
        finish(folder)
        assert read_cells(tmp_path / "s")[0].state is State.DONE


def test_a_run_that_has_just_begun_has_no_progress_yet(tmp_path):
    with locked(tmp_path / "s" / "a" / "seed0"):
        (cell,) = read_cells(tmp_path / "s")
        assert (cell.state, cell.progress) == (State.RUNNING, None)


def test_a_finished_run_is_done_whatever_failed_in_its_place_later(tmp_path):
    write_run(tmp_path / "s", "a")
    (tmp_path / "s" / "a" / "seed0.failed.json").write_text('{"reason": "another configuration"}')
    assert [cell.state for cell in read_cells(tmp_path / "s")] == [State.DONE]


@pytest.mark.parametrize("look", ["living_owner", "read_metrics", "read_json"])
def test_a_run_that_ends_between_two_looks_is_not_missed(look, tmp_path, monkeypatch):
    """Its progress.json goes, its metrics.json comes, and its owner ends, after any of the looks."""
    folder = write_unfinished(tmp_path / "s", "a")
    write_progress(folder)
    original = getattr(cells, look)

    def looked(place, *others):
        found = original(place, *others)
        if place == folder or place.parent == folder:
            finish(folder)
        return found

    with locked(folder):
        monkeypatch.setattr(cells, look, looked)
        (cell,) = read_cells(tmp_path / "s")
        assert cell.state in (State.RUNNING, State.DONE)
    monkeypatch.undo()
    assert read_cells(tmp_path / "s")[0].state is State.DONE


def test_files_that_disappear_between_two_looks_are_not_there(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "s", "a")
    write_progress(folder)
    (folder / "config.yaml").touch()
    original = cells.living_owner

    def looked(place):
        (folder / "metrics.json").unlink()
        (folder / "progress.json").unlink()
        return original(place)

    monkeypatch.setattr(cells, "living_owner", looked)
    (cell,) = read_cells(tmp_path / "s")
    assert (cell.state, cell.progress) == (State.INTERRUPTED, None)


def test_rows_as_they_were_asked_for_then_by_name_and_seeds_by_number(tmp_path):
    sweep = tmp_path / "s"
    plan(sweep, {("z", 10): facts(), ("y", 0): facts()})
    plan(sweep, {("z", 9): facts(), ("x", 0): facts()})
    write_run(sweep, "b")
    write_run(sweep, "a", 2)
    write_run(sweep, "z", 100)
    assert list(read(sweep)) == [("z", 9), ("z", 10), ("z", 100), ("y", 0), ("x", 0), ("a", 2), ("b", 0)]


def test_only_folders_of_seeds_are_runs(tmp_path):
    for name in ("seed", "seedling", "seed1.old", "seed-1", "seed3"):
        (tmp_path / "s" / "a" / name).mkdir(parents=True)
    (tmp_path / "s" / "a" / "seed7").touch()
    (tmp_path / "s" / "table.json").touch()
    assert list(read(tmp_path / "s")) == [("a", 3)]
    assert read_cells(tmp_path / "nowhere") == []


def test_the_last_plan_says_what_a_row_is_called_and_compared_with(tmp_path):
    plan(tmp_path, {("a", 0): facts("old"), ("b", 0): facts("kept", "c")})
    plan(tmp_path, {("a", 0): facts("new", "b")})
    assert {(cell.row, cell.title, cell.reference) for cell in read_cells(tmp_path)} == {
        ("a", "new", "b"),
        ("b", "kept", "c"),
    }
    (tmp_path / "unplanned" / "seed0").mkdir(parents=True)
    cell = read(tmp_path)["unplanned", 0]
    assert (cell.title, cell.reference) == ("unplanned", "ours")


def test_run_without_a_plan_says_itself_what_it_is_compared_with(tmp_path):
    folder = write_run(tmp_path, "a")
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"reference": "b"}))
    write_run(tmp_path, "b")
    assert {cell.row: cell.reference for cell in read_cells(tmp_path)} == {"a": "b", "b": "ours"}


def test_sweeps_that_start_at_once_lose_no_run(tmp_path):
    threads = [
        threading.Thread(target=plan, args=(tmp_path, {(f"row{number}", 0): facts()})) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(cell.row for cell in read_cells(tmp_path)) == [f"row{number}" for number in range(8)]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\xfe", b"[]", b'{"rows": []}', b'{"runs": 3}', b'{"runs": {"row": "a"}}',
        b'{"runs": [{"row": "a", "seed": 0, "title": "t"}]}',
        b'{"runs": [{"row": "a", "seed": "x", "title": "t", "reference": "r"}]}',
    ],
)  # fmt: skip
def test_damaged_plan_is_named(content, tmp_path):
    (tmp_path / "sweep.json").write_bytes(content)
    for call in (read_cells, lambda sweep: plan(sweep, {("a", 0): facts()})):
        with pytest.raises(RunError) as caught:
            call(tmp_path)
        assert str(caught.value).startswith(str(tmp_path / "sweep.json"))
        assert str(caught.value).endswith("remove it")
    assert (tmp_path / "sweep.json").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\0\0", b"3", b"{}", json.dumps(PROGRESS | {"epoch": None}).encode(),
        json.dumps(PROGRESS | {"done": "half"}).encode(),
        json.dumps(PROGRESS | {"seconds_left": "soon"}).encode(),
        json.dumps({key: value for key, value in PROGRESS.items() if key != "f1"}).encode(),
    ],
)  # fmt: skip
def test_damaged_progress_is_named_and_costs_no_run(content, tmp_path):
    folder = write_unfinished(tmp_path / "s", "a")
    (folder / "progress.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_cells(tmp_path / "s")
    assert str(caught.value).startswith(str(folder / "progress.json"))
    assert str(caught.value).endswith("remove it")  # and not the run's folder, in which its checkpoint is


def test_damaged_record_of_a_failure_is_named(tmp_path):
    write_unfinished(tmp_path / "s", "a")
    file = tmp_path / "s" / "a" / "seed0.failed.json"
    file.write_text("{")
    with pytest.raises(RunError, match=r"seed0\.failed\.json: not JSON .*; remove it"):
        read_cells(tmp_path / "s")


def test_progress_without_f1_or_time_left_is_whole(tmp_path):
    folder = write_unfinished(tmp_path / "s", "a")
    write_progress(folder, f1=None, seconds_left=None)
    (cell,) = read_cells(tmp_path / "s")
    assert cell.progress == PROGRESS | {"f1": None, "seconds_left": None}


def test_what_is_required_of_metrics_is_named_where_it_lacks(tmp_path):
    write_run(tmp_path / "s", "a")
    (cell,) = read_cells(tmp_path / "s")
    require(cell, ["val/f1", "title"])
    with pytest.raises(RunError, match=r"a/seed0/metrics\.json: lacks colour, size; remove the run's folder"):
        require(cell, ["val/f1", "colour", "size"])
    require(Cell(tmp_path, "b", 0, "b", State.WAITING), ["colour"])
