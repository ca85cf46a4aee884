"""Reads a report's page back, as a browser's parser would."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br", "hr", "path", "use"}


@dataclass
class Page(HTMLParser):
    """What a page holds.

    Attributes:
        elements: Tag and attributes of each, in order.
        tables: Caption -> lines of cells, each its text with single blanks; small print apart from it.
        text: All text but that of style and script.
        scripts: Content of the script elements.
        styles: The same of the style elements.
    """

    source: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    tables: dict[str, list[list[tuple[str, str]]]] = field(default_factory=dict)
    text: str = ""
    scripts: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()
        self.open = []
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.lines, self.caption = [], ""
        elif tag == "tr":
            self.lines.append([])
        elif tag in ("td", "th"):
            self.lines[-1].append(["", ""])
        elif tag in ("script", "style"):
            {"script": self.scripts, "style": self.styles}[tag].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass
        if tag == "table":
            self.tables[" ".join(self.caption.split())] = [
                [(" ".join(text.split()), small) for text, small in line] for line in self.lines
            ]

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] == "style":
            self.styles[-1] += data
        else:
            self.text += data
            if "caption" in self.open:
                self.caption += data
            elif {"td", "th"} & set(self.open) and "table" in self.open:
                self.lines[-1][-1]["small" in self.open] += data

    def all(self, tag):
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def cells(self, caption):
        """Text of a table, without the small print."""
        return [[text for text, _ in line] for line in self.tables[caption]]
