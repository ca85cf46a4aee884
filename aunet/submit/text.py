"""Text of submissions: lines of a file, its header, its rows of values, and what is wrong with them."""

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from aunet.data.annotations import LISTED_FRAME
from aunet.data.faults import Faults
from aunet.submit.files import HEADERS, NUM_AUS, Format

_GOOD = re.compile(rf"[01](?:,[01]){{{NUM_AUS - 1}}}")
_DATA = re.compile(r"[-+.\d\s,;]+")
_DECIMAL = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?")


class RowFaults:
    """What is wrong with the rows of a file; neighbours with the same fault are told together."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[int, str]]] = {}

    def add(self, number: int, faults: Iterable[tuple[str, str]]) -> None:
        """Notes kind and detail of a line's faults."""
        for kind, detail in faults:
            self.found.setdefault(kind, []).append((number, detail))

    def tell(self, file: Path, faults: Faults) -> None:
        """Records everything."""
        for kind, places in self.found.items():
            for detail, group in groupby(places, lambda place: place[1]):
                faults.add_lines(kind, file, [number for number, _ in group], detail)


def read_lines(file: Path, faults: Faults) -> list[str] | None:
    """Lines of a file, with what is wrong with its bytes told; None where there is none."""
    try:
        content = file.read_bytes()
    except OSError as error:
        faults.add("unreadable", file, str(error.strerror))
        return None
    if content.startswith(b"\xef\xbb\xbf"):
        faults.add("byte-order-mark", file, line=1)
        content = content[3:]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        faults.add("not-utf8", file, f"byte {content[error.start]:#04x}", line)
        text = content.decode("utf-8", "replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    if "\r" in text:
        first = text.count("\n", 0, text.index("\r")) + 1
        faults.add("line-ends", file, f"and {text.count(chr(13)) - 1} more", first)
    if not text.strip():
        faults.add("empty-file", file)
        return None
    return lines


def check_header(file: Path, line: str, form: Format, faults: Faults) -> int:
    """Number of lines that the header takes: 0 where it is missing."""
    due = HEADERS[form]
    if line == due:
        return 1
    first = line.partition(",")[0].strip()
    if _DATA.fullmatch(line) or (form == "abaw5" and LISTED_FRAME.fullmatch(first)):
        faults.add("no-header", file, f"the first line is {line[:40]!r}", 1)
        return 0
    names = [name.strip() for name in line.split(",")]
    if names != line.split(","):
        faults.add("blanks", file, "in the header", 1)
    if names[-1] == "" and len(names) > 1:
        faults.add("trailing-comma", file, "in the header", 1)
        names.pop()
    if ",".join(names) == due:
        return 1
    if sorted(names) == sorted(due.split(",")):
        faults.add("column-order", file, f"{','.join(names)} where {due} is due", 1)
    else:
        faults.add("wrong-header", file, f"{line[:100]!r} where {due} is due", 1)
    return 1


def row_faults(text: str) -> list[tuple[str, str]]:
    """Kind and detail of everything that is wrong with the values of a row."""
    if _GOOD.fullmatch(text):
        return []
    if not text.strip():
        return [("empty-line", "")]
    if "," not in text:
        return [("separator" if re.search(r"[\s;|:]", text.strip()) else "too-few-values", "")]
    found = [("blanks", "")] if re.search(r"\s", text) else []
    cells = "".join(text.split()).split(",")
    if len(cells) > NUM_AUS and cells[-1] == "":
        found.append(("trailing-comma", ""))
        cells.pop()
    if len(cells) != NUM_AUS:
        kind = "too-few-values" if len(cells) < NUM_AUS else "too-many-values"
        found.append((kind, f"{len(cells)} of {NUM_AUS}"))
    wrong = dict(_value_fault(cell) for cell in cells if cell not in ("0", "1"))
    return [*found, *wrong.items()]


def _value_fault(cell: str) -> tuple[str, str]:
    if cell == "":
        return "empty-value", ""
    if cell == "-1":
        return "unknown-value", ""
    if _DECIMAL.fullmatch(cell):
        return "not-integer", ""
    return "not-binary", repr(cell[:20])
