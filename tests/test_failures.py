"""What a user is told of an error, and where it stays."""

import errno
import json
import os
from pathlib import Path

import pytest
from hydra.errors import CompactHydraException, InstantiationException
from omegaconf.errors import ConfigKeyError

from aunet.data.faults import DataError
from aunet.failures import cause_of, reason, recorded
from aunet.runs import RunError
from aunet.weights import WeightsError


def wrapped(cause):
    """As Hydra wraps what a constructor raises."""
    try:
        raise InstantiationException("Error in call to target 'aunet.x'") from cause
    except InstantiationException as error:
        return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("no crops in\n  /data"), "no crops in /data"),
        (RunError("the folder holds another run"), "the folder holds another run"),
        (WeightsError("x.pt is cut off"), "x.pt is cut off"),
        (FloatingPointError("the loss is nan"), "the loss is nan"),
        (CompactHydraException("nosuchkey"), "nosuchkey"),
        (ConfigKeyError("missing"), "missing"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "[Errno 13] Permission denied: 'x'"),
        # Of others a reader needs the class to make sense of the message.
        (KeyError("width"), "KeyError: 'width'"),
        (RuntimeError("mat1 and mat2\nshapes"), "RuntimeError: mat1 and mat2 shapes"),
        (wrapped(WeightsError("offline")), "offline"),
        (wrapped(TypeError("no argument c")), "TypeError: no argument c"),
        (wrapped(None), "Error in call to target 'aunet.x'"),
    ],
)
def test_reason_is_one_line(error, said):
    assert reason(error) == said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_of_a_full_disk_it_says_what_to_do(number):
    error = OSError(number, os.strerror(number))
    for raised in (error, wrapped(error)):
        assert reason(raised).startswith(
            f"[Errno {number}] {os.strerror(number)}: make room and give the same"
        )


def test_cause_of_other_errors_is_the_error_itself():
    cause = WeightsError("offline")
    assert cause_of(wrapped(cause)) is cause
    error = RunError("it")
    error.__cause__ = cause
    assert cause_of(error) is error


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "row" / "seed3"
    run.mkdir(parents=True)
    return run


def fails(look):
    look()
    raise RunError("again")


def test_a_failure_stays_beside_the_folder_until_an_attempt_succeeds(folder):
    file = folder.parent / "seed3.failed.json"
    with pytest.raises(KeyError), recorded(folder):
        raise KeyError("width")
    record = json.loads(file.read_text())
    assert record["reason"] == "KeyError: 'width'"
    assert record.keys() == {"reason", "host", "time"}
    assert list(folder.iterdir()) == []
    there = []
    with pytest.raises(RunError), recorded(folder):
        fails(lambda: there.append(file.exists()))
    assert there == [False]  # while it trains, it has not failed
    assert json.loads(file.read_text())["reason"] == "again"
    with recorded(folder):
        pass
    assert [path.name for path in folder.parent.iterdir()] == ["seed3"]


def test_a_success_removes_what_another_process_recorded_meanwhile(folder):
    file = folder.parent / "seed3.failed.json"
    with recorded(folder):
        file.write_text("{}")
    assert not file.exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_failure(stop, folder):
    with pytest.raises(stop), recorded(folder):
        raise stop
    assert [path.name for path in folder.parent.iterdir()] == ["seed3"]


def test_on_a_full_disk_the_error_itself_is_told(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match="the cause"), recorded(folder):
        raise RunError("the cause")
    assert [path.name for path in folder.parent.iterdir()] == ["seed3"]


def test_a_run_without_a_place_fails_with_its_own_error(tmp_path):
    with pytest.raises(RunError, match="the cause"), recorded(tmp_path / "missing" / "seed0"):
        raise RunError("the cause")
    assert list(tmp_path.iterdir()) == []
