"""What was dropped on the page, worked on one after another.

An upload is deleted as soon as it has been predicted, also if that failed; results when others take their
place, when the page asks for it, and when the demo ends. What a killed demo left is deleted by the next one.
"""

import contextlib
import logging
import queue
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aunet.data.faults import one_line
from aunet.demo.summary import summary
from aunet.drawing import Drawing
from aunet.predict import Options, Predictor
from aunet.predict.inputs import FileInput
from aunet.progress import listening

log = logging.getLogger(__name__)

RESULTS = ("overlay.png", "overlay.mp4", "timeline.svg", "table.csv")
"""Files that a job may leave."""

_MOST_JOBS = 8
"""That are waiting, at work, or kept with their results."""

_PREFIX = "aunet-demo-"
_SECONDS_TO_END = 20.0


class BusyError(RuntimeError):
    """Too much is waiting."""


class _CancelledError(Exception):
    """Nobody wants the result any more."""


@dataclass
class Job:
    """An upload and what becomes of it.

    Attributes:
        folder: Holds the upload, and then its results.
        name: Of the file on the user's side, for texts only.
        key: Nobody can guess it.
        state: "uploading", "waiting", "working", "done" or "failed".
        step: What is done now.
        part: How much of this step is done, from 0 to 1.
        problems: What is wrong with the file, each in one line.
        result: What was found, see ``summary``.
        cancelled: Whether it is to end.
    """

    folder: Path
    name: str
    key: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    state: str = "uploading"
    step: str = ""
    part: float = 0.0
    problems: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None
    cancelled: bool = False

    @property
    def upload(self) -> Path:
        """Where the uploaded file lies."""
        return self.folder / "upload"

    def as_json(self) -> dict[str, Any]:
        """What the page is told."""
        files = [name for name in RESULTS if (self.folder / name).exists()] if self.state == "done" else []
        told = {key: getattr(self, key) for key in ("state", "step", "part", "problems", "result")}
        return told | {"files": files}


class Jobs:
    """Works on uploads in a thread of its own.

    Args:
        root: Folder for everything.
        predictor: Tells the AUs.
        options: How files are looked at.
    """

    def __init__(self, root: Path, predictor: Predictor, options: Options) -> None:
        self.root, self.predictor, self.options = root, predictor, options
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def begin(self, name: str) -> Job:
        """A job whose upload is still to come; the oldest finished one makes room.

        Raises:
            BusyError: None has finished.
        """
        with self._lock:
            if len(self._jobs) >= _MOST_JOBS:
                ended = [job for job in self._jobs.values() if job.state in ("done", "failed")]
                if not ended:
                    raise BusyError(f"{len(self._jobs)} files are waiting: try again later")
                self._forget(ended[0])
            folder = Path(tempfile.mkdtemp(dir=self.root))
            job = Job(folder, one_line(name)[:200] or "upload")
            self._jobs[job.key] = job
        return job

    def submit(self, job: Job) -> None:
        """Queues a job whose upload is there."""
        job.state = "waiting"
        self._queue.put(job)

    def get(self, key: str) -> Job | None:
        """The job of a key."""
        with self._lock:
            return self._jobs.get(key)

    def remove(self, job: Job) -> None:
        """Ends a job and deletes its files, at once or as soon as nothing writes there."""
        with self._lock:
            self._forget(job)

    @property
    def is_working(self) -> bool:
        """Whether the thread has not ended; after ``close``: not in time."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Ends everything and deletes every file."""
        with self._lock:
            for job in list(self._jobs.values()):
                self._forget(job)
        self._queue.put(None)
        self._thread.join(_SECONDS_TO_END)

    def _forget(self, job: Job) -> None:
        job.cancelled = True
        self._jobs.pop(job.key, None)
        job.upload.unlink(missing_ok=True)
        if job.state != "working":  # else the thread deletes them
            shutil.rmtree(job.folder, ignore_errors=True)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.cancelled:
                continue
            job.state = "working"
            try:
                state = self._predict(job)
            except _CancelledError:
                state = "failed"
            except (ValueError, OSError, RuntimeError) as error:
                job.problems, state = [_in_one_line(error, job)], "failed"
            except Exception:  # a fault of ours, which must not end the thread: others wait
                log.exception(f"{job.name}: failed")
                job.problems = [f"{job.name}: failed by a fault of aunet, told on the terminal"]
                state = "failed"
            finally:
                job.upload.unlink(missing_ok=True)
                shutil.rmtree(job.folder / "table.csv.partial", ignore_errors=True)
            with self._lock:
                job.state = state
                if job.cancelled:
                    shutil.rmtree(job.folder, ignore_errors=True)

    def _predict(self, job: Job) -> str:
        """Predicts and draws; the state in which the job is then."""

        def listener(step: str, done: int, total: int) -> None:
            if job.cancelled:
                raise _CancelledError
            job.step, job.part = step, min(1.0, done / max(total, 1))

        def draw(file: FileInput, rows: Callable[[], Iterator[Any]]) -> None:
            job.result = summary(rows(), self.predictor.aus)
            is_video = job.result["kind"] == "video"
            overlay = job.folder / ("overlay.mp4" if is_video else "overlay.png")
            timeline = job.folder / "timeline.svg" if is_video else None
            Drawing(self.predictor, overlay, timeline, self.options)(file, rows)

        about = job.upload.stat()
        file = FileInput(job.upload, job.name, about.st_size, about.st_mtime_ns)
        with listening(listener):
            report = self.predictor.write(job.folder / "table.csv", [file], self.options, draw=draw)
        job.problems = [_in_one_line(problem, job) for problem in report.problems]
        return "failed" if job.result is None else "done"


def _in_one_line(error: Exception | str, job: Job) -> str:
    """A message that names the user's file instead of ours."""
    return one_line(str(error).replace(str(job.upload), job.name).replace(f"{job.folder}/", ""))


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for this process, which nobody else can read and which is deleted at its end."""
    _remove_left_behind(Path(tempfile.gettempdir()))
    temporary = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    with temporary as name, FileLock(Path(name) / ".lock"):
        yield Path(name)


def _remove_left_behind(parent: Path) -> None:
    """Deletes the folders of demos that were killed: their locks are free."""
    for lock in parent.glob(f"{_PREFIX}*/.lock"):
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):  # living, or another user's
            shutil.rmtree(lock.parent, ignore_errors=True)
