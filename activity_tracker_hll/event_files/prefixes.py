"""What others put before each line of a log: syslog, the journal, Kubernetes, Docker Compose.

A prefix is taken off where that makes a line of the file's format, and a line without it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from .lines import LONGEST_LINE, Lines

__all__ = ["PREFIXES", "find_prefix", "without_prefix"]

_ISO = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
PREFIXES = {
    "syslog": re.compile(  # also as the journal shows it, by journalctl -o short and short-iso
        rb"(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?|"
        + _ISO
        + rb") [^ ]{1,255} [^ :\[]{1,100}"
        rb"(?:\[[^ \]]{1,40}\])?: "
    ),
    "rfc5424": re.compile(
        rb"<\d{1,3}>1 (?:" + _ISO + rb"|-)(?: [^ ]{1,255}){4}"
        rb" (?:-|(?:\[(?:[^\]\\]|\\.){0,1000}\])+) (?:\xef\xbb\xbf)?"
    ),
    "cri": re.compile(_ISO + rb" (?P<stream>stdout|stderr) (?P<tag>[FP])(?::[^ ]{1,40})? "),
    "compose": re.compile(rb"[A-Za-z0-9][\w.-]{0,100} *\| (?:" + _ISO + rb" )?"),
    "docker": re.compile(_ISO + rb" "),
}
"""By name, the most particular first."""


def find_prefix(head: Iterable[bytes], fits: Callable[[bytes], bool]) -> str | None:
    """The prefix without which a line fits that does not fit with it; None if there is none."""
    for line in head:
        for name, pattern in PREFIXES.items():
            if (found := pattern.match(line)) and not fits(line) and fits(line[found.end() :]):
                return name
    return None


def without_prefix(lines: Lines, name: str | None) -> Iterator[bytes]:
    """The lines without a prefix; those that Kubernetes has split are one again, with the last number."""
    return iter(lines) if name is None else _without_prefix(lines, name)


def _without_prefix(lines: Lines, name: str) -> Iterator[bytes]:
    parts: dict[bytes, bytes] = {}  # of lines of stdout and stderr that go on
    for line in lines:
        found = PREFIXES[name].match(line)
        rest = line[found.end() :] if found else line
        if found and name == "cri":
            stream = found["stream"]
            rest = parts.pop(stream, b"") + rest
            if found["tag"] == b"P":
                parts[stream] = rest.rstrip(b"\r\n")[:LONGEST_LINE]
                continue
        yield rest
    for _ in parts:
        lines.reject("a line that was split does not end")
