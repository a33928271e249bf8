"""Access logs with columns: W3C's extended format (IIS, CloudFront), and load balancers of AWS."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .layout import MissingFieldError

__all__ = ["ALB", "ELB", "ColumnParser", "ColumnRecord", "W3CParser", "is_w3c"]

ALB = [
    "type",
    "time",
    "elb",
    "client:port",
    "target:port",
    "request_processing_time",
    "target_processing_time",
    "response_processing_time",
    "elb_status_code",
    "target_status_code",
    "received_bytes",
    "sent_bytes",
    "request",
    "user_agent",
    "ssl_cipher",
    "ssl_protocol",
    "target_group_arn",
    "trace_id",
    "domain_name",
    "chosen_cert_arn",
    "matched_rule_priority",
    "request_creation_time",
    "actions_executed",
    "redirect_url",
    "error_reason",
    "target:port_list",
    "target_status_code_list",
    "classification",
    "classification_reason",
    "conn_trace_id",
    "transformed_host",
    "transformed_uri",
    "request_transform_status",
]
"""The columns of an application load balancer's log; later versions have more."""

ELB = [
    "time",
    "elb",
    "client:port",
    "backend:port",
    "request_processing_time",
    "backend_processing_time",
    "response_processing_time",
    "elb_status_code",
    "backend_status_code",
    "received_bytes",
    "sent_bytes",
    "request",
    "user_agent",
    "ssl_cipher",
    "ssl_protocol",
]
"""The columns of a classic load balancer's log."""

_WORD = re.compile(r'(?P<quote>")?(?(quote)(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*+)"|(?P<bare>[^ "]*))(?: |$)')
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?)?", re.ASCII)
# By the ends of the columns' names; other columns may hold anything.
_PATTERNS = {
    "type": re.compile("https?|h2|grpcs|wss?"),
    "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z|-?\d+(?:\.\d+)?", re.ASCII),
    ":port": re.compile(r"-|\[?[0-9A-Fa-f:.]+\]?:\d{1,5}", re.ASCII),
    "_code": _NUMBER,
    "_bytes": _NUMBER,
}

_W3C_ALIASES = {
    "remote_host": "c-ip",
    "ip": "c-ip",
    "user": "cs-username",
    "User-Agent": "cs(User-Agent)",
    "user_agent": "cs(User-Agent)",
    "Referer": "cs(Referer)",
    "status": "sc-status",
    "method": "cs-method",
    "path": "cs-uri-stem",
    "vhost": "cs(Host)",
}
_ELB_ALIASES = {
    "client": "client:port",
    "remote_host": "client:port",
    "ip": "client:port",
    "User-Agent": "user_agent",
    "status": "elb_status_code",
}
_SHOWN = 80


class ColumnRecord:
    """A line's columns, by their names."""

    def __init__(
        self,
        columns: dict[str, int],
        values: Sequence[str],
        aliases: dict[str, str],
        default_id: str,
        default_time: tuple[str, ...],
    ) -> None:
        self._columns = columns
        self._values = values
        self._aliases = aliases
        self.default_id = default_id
        self.default_time = default_time

    def value(self, field: str) -> bytes | None:
        """See :class:`.records.Record`."""
        column = self._columns.get(field)
        if column is None:
            column = self._columns.get(self._aliases.get(field, field))
        if column is None or column >= len(self._values):
            raise MissingFieldError(field, self.names())
        value = self._values[column]
        if value in ("-", ""):
            return None
        # The port stands behind the last colon, also of an IPv6 address without brackets.
        if field != "client:port" and self._aliases.get(field) == "client:port":
            value = value.rpartition(":")[0].strip("[]")
        return value.encode("utf-8", "surrogateescape")

    def names(self) -> list[str]:
        """See :class:`.records.Record`."""
        return list(self._columns)


class ColumnParser:
    """Parses lines of which each column is known.

    Args:
        columns: their names, :data:`ALB` or :data:`ELB`.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = {name: index for index, name in enumerate(columns)}
        self._fewest = self._columns["user_agent"] + 1
        self._patterns = [
            (index, pattern)
            for name, index in self._columns.items()
            for end, pattern in _PATTERNS.items()
            if name.endswith(end) and index < self._fewest
        ]

    def parse(self, line: bytes) -> ColumnRecord:
        """The fields of an entry.

        Raises:
            ValueError: the line does not have the format.
        """
        text = line.decode("utf-8", "surrogateescape").rstrip()
        values = _words(text)
        if len(values) < self._fewest or not all(
            pattern.fullmatch(values[column]) for column, pattern in self._patterns
        ):
            raise ValueError(f"not of the format of a load balancer: {text[:_SHOWN]!r:.80}")
        return ColumnRecord(self._columns, values, _ELB_ALIASES, "client", ("time",))


class W3CParser:
    """Parses lines as the last line with #Fields says."""

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}

    def parse(self, line: bytes) -> ColumnRecord | None:
        """The fields of an entry; None for a line with a directive.

        Raises:
            ValueError: the line does not have as many fields, or comes before #Fields.
        """
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if text.startswith("#"):
            name, _, rest = text.partition(":")
            if name.lower() == "#fields":
                self._columns = {field: index for index, field in enumerate(rest.split())}
            return None
        if not self._columns:
            raise ValueError(f"there is no line with #Fields before: {text[:_SHOWN]!r:.80}")
        values = text.split("\t") if "\t" in text else text.rstrip().split(" ")
        if len(values) != len(self._columns):
            raise ValueError(
                f"{len(values)} fields, and #Fields has {len(self._columns)}: {text[:_SHOWN]!r:.80}"
            )
        time = ("date", "time") if "date" in self._columns else ("time",)
        return ColumnRecord(self._columns, values, _W3C_ALIASES, "c-ip", time)


def is_w3c(line: bytes) -> bool:
    """Whether a line names the columns of those after it."""
    return line[:8].lower() == b"#fields:"


def _words(text: str) -> list[str]:
    """Words between spaces, which may be quoted; none if a quote is open."""
    words, at = [], 0
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            return []
        words.append(found["quoted"] if found["quote"] else found["bare"])
        at = found.end()
    return words
