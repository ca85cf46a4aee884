"""Everything that can be wrong with a submission."""

from collections.abc import Mapping

from aunet.data.faults import Kind
from aunet.submit.files import NUM_AUS


def _error(what: str, advice: str) -> Kind:
    return Kind("error", what, advice)


KINDS: Mapping[str, Kind] = {
    # folders and files
    "archive": _error("archives", "unpack them; the check looks at files"),
    "nested-folder": _error("folders within the submission", "all files lie in the folder itself"),
    "missing-file": _error("listed videos without a file", "each has <video>.txt, named as in the list"),
    "wrong-case": _error("names in other letters than the list's", "rename the files as listed"),
    "wrong-name": _error("names that are not <video>.txt", "rename the files as listed"),
    "extra-file": _error("files of no listed video", "remove them"),
    "wrong-type": _error("folders where a file is due, or the reverse", "choose the right --format"),
    "unreadable": _error("files that cannot be read", "see who may read them"),
    "link": _error("links", "put the files themselves there: links lead nowhere once they are sent"),
    # text
    "not-utf8": _error("bytes that are not UTF-8", "write plain ASCII"),
    "byte-order-mark": _error("byte-order marks", 'write "utf-8", not "utf-8-sig"'),
    "line-ends": _error("lines that end with CR", "end lines with LF alone"),
    "empty-file": _error("empty files", "each has a header and a line for each frame"),
    # header
    "no-header": _error("files without a header", "the first line names the columns"),
    "repeated-header": _error("headers after the first line", "remove them"),
    "wrong-header": _error("headers that are not the competition's", "write the header that is due"),
    "column-order": _error("columns in another order", "the order is fixed"),
    # rows
    "too-few-lines": _error("files with too few lines", "each expected frame has one, crop or not"),
    "too-many-lines": _error("files with too many lines", "each expected frame has one"),
    "empty-line": _error("empty lines", "remove them"),
    "blanks": _error("lines with blanks", "write commas alone between values"),
    "separator": _error("lines not separated by commas", "write commas"),
    "trailing-comma": _error("lines with a comma at the end", "remove it"),
    "too-few-values": _error("lines with too few values", f"each has {NUM_AUS}"),
    "too-many-values": _error("lines with too many values", f"each has {NUM_AUS}"),
    "empty-value": _error("empty values", "write 0 or 1"),
    "unknown-value": _error("values of -1", "write 0 or 1: -1 is for annotations"),
    "not-integer": _error("decimal numbers", "write 0 or 1: no probabilities, and no 1.0"),
    "not-binary": _error("values other than 0 and 1", "write 0 or 1"),
    # pictures
    "bad-location": _error("names that are not <video>/00001.jpg", "five digits, and .jpg"),
    "unknown-video": _error("rows of videos that are not listed", "remove them, or mend the name"),
    "frame-zero": _error("videos whose frames are numbered from 0", "they begin at 1: add 1 to each"),
    "unknown-frame": _error("rows of frames that are not expected", "remove them"),
    "missing-row": _error("frames without a row", "each expected frame has one, crop or not"),
    "duplicate-row": _error("frames that are listed twice", "remove one of the rows"),
    "unsorted-rows": _error("rows that are not in order", "as in the sample, or video by video, rising"),
}
