"""The client's address in a field: of a chain that proxies made the first or last, and never its port."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Literal

__all__ = ["address", "is_address", "is_address_field"]

# Headers that proxies add; what is no address in them is nobody's.
_FORWARDED = {
    "x_forwarded_for",
    "forwarded_for",
    "x_real_ip",
    "real_ip",
    "cf_connecting_ip",
    "true_client_ip",
}
_PEERS = {"remote_host", "remote_addr", "remote_address", "remote_ip", "client_ip", "client_addr", "c_ip"}
_MAX_LENGTH = 64
# IIS writes a space as +, CloudFront as %20.
_SEPARATOR = re.compile(r"(?:,|%2C)(?:\s|\+|%20)*", re.IGNORECASE)
_V4_WITH_PORT = re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+", re.ASCII)
_BRACKETS = re.compile(r"\[([^\]]*)\](?::\d+)?", re.ASCII)


def is_address_field(field: str) -> bool:
    """Whether a field holds addresses, by the last part of its name."""
    return _bare_name(field) in _FORWARDED | _PEERS


def address(field: str, value: str, which: Literal["first", "last"]) -> str | None:
    """One address of a field; None if it has none.

    The value of a field that no proxy wrote may also be the name of a host, which is handed on.
    """
    parts = [part.strip() for part in _SEPARATOR.split(value)]
    found = [bare for part in parts if (bare := _bare(part)) is not None]
    if not found:
        return None if _bare_name(field) in _FORWARDED or len(parts) > 1 else value
    return found[0 if which == "first" else -1]


@lru_cache(4096)
def _cached_is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_address(text: str) -> bool:
    """Whether a text is an IP address, without a port."""
    return len(text) <= _MAX_LENGTH and _cached_is_address(text)


def _bare(part: str) -> str | None:
    """An address without its port; None if it is none."""
    found = _V4_WITH_PORT.fullmatch(part) or _BRACKETS.fullmatch(part)
    bare = found[1] if found else part
    return bare if is_address(bare) else None


@lru_cache(256)
def _bare_name(field: str) -> str:
    name = field.rpartition(".")[2].lower().replace("-", "_")
    if name.startswith(("cs(", "sc(")) and name.endswith(")"):
        name = name[3:-1]
    return name.removeprefix("http_")
