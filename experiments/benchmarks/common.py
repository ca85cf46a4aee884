"""What the benchmarks share: paired medians, tables, and contestants in processes of their own.

Contestants differ in settings that a process makes once and for all (glibc's allocator above all), so each
side of a comparison is a process that waits to be asked. The parent asks them in turn, A B C, A B C, ..., so
that a machine that slows down slows all of them, and compares the answers of one round with each other.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, NamedTuple, Self

from aunet.files import replacing, write_json
from aunet.host import describe_host

HERE = Path(__file__).parent
PACKAGES = (
    "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy", "simplejpeg", "pillow",
    "webdataset", "litdata", "onnx", "onnxruntime", "onnxscript",
)  # fmt: skip

Answer = dict[str, Any]


class Ratio(NamedTuple):
    """Ratios of the rounds: their median, the smallest and the largest."""

    median: float
    low: float
    high: float


def paired(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """Ratios of what was measured in the same rounds."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


STOCK = {"GOMP_SPINCOUNT": "300000"}
"""OpenMP's own default, which importing aunet would change."""


class Contestant:
    """A process that measures when it is asked; the other side of ``serve``.

    Args:
        script: File of this folder.
        arguments: Of the script.
        log: Takes all that the process prints; its end is shown if the process fails.
    """

    def __init__(self, script: str, arguments: Sequence[object], log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            self.process = subprocess.Popen(  # noqa: S603  # our own scripts
                [sys.executable, str(HERE / script), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | (STOCK if "stock" in arguments else {}),
            )

    def ask(self, **question: Any) -> Answer:
        """One question, and the answer to it.

        Raises:
            RuntimeError: The process has failed.
        """
        try:
            self.process.stdin.write(json.dumps(question) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
            line = self.process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            line = ""
        if not line:
            end = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"a contestant failed, see {self.log}:\n{end}")
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process: its questions end, and what it does not end by itself is killed."""
        self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Questions:
    """Questions of the parent, within a contestant. Whatever else prints does so on the error stream."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def next(self) -> Answer | None:
        """The next one; None when there are no more."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def answer(self, **content: Any) -> None:
        """Answers the last one."""
        self._answers.write(json.dumps(content) + "\n")
        self._answers.flush()


def serve(measure: Callable[..., Answer]) -> None:
    """Answers questions by ``measure(**question)`` until there are no more."""
    questions = Questions()
    while (question := questions.next()) is not None:
        questions.answer(**measure(**question))


def in_turn(contestants: Mapping[str, Callable[[], Answer]], rounds: int, what: str) -> dict[str, Answer]:
    """Asks all contestants, round after round.

    Every other round goes the other way, so that nobody always follows the same neighbour.

    Args:
        contestants: Name -> takes one measurement.
        rounds: How often each is asked.
        what: Named in the progress.

    Returns:
        Name -> key of the answers -> the values of all rounds.
    """
    found: dict[str, Answer] = {name: {} for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            for key, value in contestants[name]().items():
                found[name].setdefault(key, []).append(value)
        say(f"{what}: round {number + 1} of {rounds}")
    return found


def say(text: str) -> None:
    """A line of progress, on the error stream."""
    print(text, file=sys.stderr, flush=True)


def host() -> Answer:
    """The machine, the packages, and how busy it is at this moment."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        **describe_host(),
        "model": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": sys.version.split()[0],
        "load": os.getloadavg()[0],
        "packages": versions,
    }


def _processor() -> str | None:
    """The processor's name, which ``platform`` does not know on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table: the first column to the left, numbers to the right, floats with four digits."""
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [[*header], rule, *cells])


def machine(facts: Answer) -> str:
    """One sentence about the machine, for under the tables."""
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in facts["packages"].items())
    return (
        f"{facts['model']}, {facts['cores']} cores, {facts['memory_gib']} GiB, load {facts['load']:.1f} at "
        f"the start; Python {facts['python']}, {packages}."
    )


def publish(out: Path, name: str, content: Answer, text: str) -> None:
    """Shows the tables and writes ``<name>.md`` and ``<name>.json``, each at once."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{name}.json", content)
    with replacing(out / f"{name}.md") as temporary:
        temporary.write_text(text)
    print(text)


def command(what: str) -> argparse.ArgumentParser:
    """A command line with what both benchmarks ask for."""
    kept = Path(os.environ.get("AUNET_DATA", "data")) / "bench"
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works: nothing to quote")
    parser.add_argument("--frames", type=int, help="training frames of an epoch")
    parser.add_argument("--repeats", type=int, help="rounds")
    parser.add_argument("--folder", type=Path, default=kept, help="the benchmarks' frames")
    parser.add_argument("--source", type=Path, help="where pictures come from; default: rendered faces")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the results")
    return parser
