"""Which format a file has, by its name or its first lines."""

from __future__ import annotations

from .logs import is_log

__all__ = ["detect"]

_EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def detect(name: str, head: list[bytes]) -> str:
    """Detect the format of a file by its name, or else by its first lines."""
    base = name.lower().removesuffix(".gz")
    for extension, format in _EXTENSIONS.items():
        if base.endswith(extension):
            return format
    nonempty = [line for line in head if line.strip()]
    if any(is_log(line) for line in nonempty):
        return "log"
    first = nonempty[0] if nonempty else b""
    if first.lstrip().startswith(b"{"):
        return "jsonl"
    return "tsv" if b"\t" in first else "csv" if b"," in first else "whitespace"
