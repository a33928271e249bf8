"""From log formats of nginx to those of Apache, which the package apachelogs takes."""

from __future__ import annotations

import re

__all__ = ["apache_format", "is_nginx_format"]

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_DIRECTIVES = {
    "remote_addr": "%h",
    "remote_user": "%u",
    "time_local": "%{%d/%b/%Y:%H:%M:%S %z}t",
    "request": "%r",
    "request_method": "%m",
    "uri": "%U",
    "request_uri": "%U",
    "status": "%>s",
    "body_bytes_sent": "%b",
    "bytes_sent": "%O",
    "host": "%v",
    "server_name": "%v",
}
_KINDS = {"http_": "i", "sent_http_": "o", "cookie_": "C"}


def is_nginx_format(format: str) -> bool:
    """Whether a format has variables as nginx has them."""
    return _VARIABLE.search(format) is not None


def apache_format(format: str) -> str:
    """The same format for Apache; also of a whole `log_format name '...';` of nginx's settings."""
    if format.lstrip().startswith("log_format"):
        format = "".join(re.findall(r"'([^']*)'", format))
    return _VARIABLE.sub(_directive, format.replace("%", "%%").replace("[$time_local]", "%t"))


def _directive(variable: re.Match[str]) -> str:
    name = variable[1] or variable[2]
    for start, kind in _KINDS.items():
        if name.startswith(start):
            rest = name.removeprefix(start)
            return f"%{{{rest if kind == 'C' else rest.replace('_', '-')}}}{kind}"
    return _DIRECTIVES.get(name, f"%{{{name}}}n")
