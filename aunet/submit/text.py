"""Text of submissions: lines of a file, its header, its rows of values, and what is wrong with them."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from aunet.data.annotations import LISTED_FRAME
from aunet.data.faults import Faults
from aunet.submit.files import HEADERS, NUM_AUS, Format

_GOOD = re.compile(rf"[01](?:,[01]){{{NUM_AUS - 1}}}")
_PACKED = b"PK\x03\x04", b"\x1f\x8b"
"""First bytes of zip and gzip."""
_WIDE = b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"
"""First bytes of UTF-16 and UTF-32."""
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
    if file.is_symlink():
        faults.add("link", file)
    try:
        if file.exists() and not file.is_file():
            raise OSError(0, "neither a file nor a folder")
        content = file.read_bytes()
    except OSError as error:
        faults.add("unreadable", file, str(error.strerror))
        return None
    if content.startswith(_PACKED):
        faults.add("archive", file, "by its content")
        return None
    if content.startswith(_WIDE) or 4 * content.count(0) > len(content):
        faults.add("not-utf8", file, "UTF-16 or UTF-32, as some editors and shells write", 1)
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
    if many := text.count("\r"):
        first = text.count("\n", 0, text.index("\r")) + 1
        faults.add("line-ends", file, "the first of them" if many > 1 else "", first, many)
    if not text.strip():
        faults.add("empty-file", file)
        return None
    return lines


def check_header(file: Path, lines: Sequence[str], form: Format, faults: Faults) -> int:
    """Number of lines up to the first row: blank ones, and the header, where there is one."""
    blank = next(number for number, line in enumerate(lines) if line.strip())
    faults.add_lines("empty-line", file, list(range(1, blank + 1)))
    return blank + _header(file, lines[blank], blank + 1, form, faults)


def is_header(line: str, form: Format) -> bool:
    """Whether a line is the header that is due, but for blanks."""
    return "".join(line.split()) == HEADERS[form]


def _header(file: Path, line: str, number: int, form: Format, faults: Faults) -> int:
    """Number of lines that the header takes: 0 where it is missing."""
    due = HEADERS[form]
    if line == due:
        return 1
    if "".join(line.split()) == due.replace("AU", ""):
        faults.add("wrong-header", file, f"{line[:100]!r} where {due} is due", number)
        return 1
    first = line.partition(",")[0].strip()
    if _DATA.fullmatch(line) or (form == "abaw5" and LISTED_FRAME.fullmatch(first)):
        faults.add("no-header", file, f"the first line is {line[:40]!r}", number)
        return 0
    names = [name.strip() for name in line.split(",")]
    if names != line.split(","):
        faults.add("blanks", file, "in the header", number)
    if names[-1] == "" and len(names) > 1:
        faults.add("trailing-comma", file, "in the header", number)
        names.pop()
    if ",".join(names) == due:
        return 1
    if sorted(names) == sorted(due.split(",")):
        faults.add("column-order", file, f"{','.join(names)} where {due} is due", number)
    else:
        faults.add("wrong-header", file, f"{line[:100]!r} where {due} is due", number)
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
    if len(cells) == NUM_AUS + 1 and all(cell in ("0", "1") for cell in cells[1:]):
        return [*found, ("too-many-values", f"{len(cells)} of {NUM_AUS}")]  # such as a number in front
    if len(cells) != NUM_AUS:
        kind = "too-few-values" if len(cells) < NUM_AUS else "too-many-values"
        found.append((kind, f"{len(cells)} of {NUM_AUS}"))
    bad = [_value_fault(cell) for cell in cells if cell not in ("0", "1")]
    wrong = dict(reversed(bad))  # of each kind the first
    return [*found, *wrong.items()]


def _value_fault(cell: str) -> tuple[str, str]:
    if cell == "":
        return "empty-value", ""
    if cell == "-1":
        return "unknown-value", ""
    if _DECIMAL.fullmatch(cell):
        return "not-integer", ""
    return "not-binary", repr(cell[:20])
