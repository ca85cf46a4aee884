"""Recognises what kind of data set lies at a place."""

from pathlib import Path

from aunet.data.faults import DataError
from aunet.data.store import is_store, read_record

_READERS = {
    "aunet.data.affwild2.read_affwild2": "affwild2",
    "aunet.data.disfa.read_disfa": "disfa",
    "aunet.data.bp4d.read_bp4d": "bp4d",
    "aunet.data.manifest.read_manifest": "manifest",
    "aunet.data.mixed.read_mixed": "mixed",
}
MANIFEST_SUFFIXES = (".csv", ".parquet", ".pq")


def detect(path: Path) -> str:
    """Name of the file in ``conf/data`` that reads a place; Aff-Wild2's where nothing else fits.

    Raises:
        DataError: There is nothing.
    """
    if path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        return "manifest"
    if not path.is_dir():
        raise DataError(f"{path} is no folder, and no manifest ({', '.join(MANIFEST_SUFFIXES)})")
    if is_store(path):
        reader = read_record(path)["recipe"]["reader"]
        if reader not in _READERS:
            raise DataError(f"{path} was packed by {reader}: name the configuration by --data NAME")
        return _READERS[reader]
    if (path / "ActionUnit_Labels").is_dir():
        return "disfa"
    if (path / "AUCoding").is_dir() or (path / "AU_OCC").is_dir():
        return "bp4d"
    manifests = [file for suffix in MANIFEST_SUFFIXES for file in path.glob(f"manifest{suffix}")]
    return "manifest" if manifests else "affwild2"
