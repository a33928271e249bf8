"""The rights that a server's user needs (ACL): the one table of them, and which ones are missing.

A right is a command, of a role: ``track`` is a service that tracks, ``read`` one that asks, or archives,
``collapse`` the job that counts, and whoever changes settings, ``restore`` who copies an archive back. Which
commands the calls of a role need was measured, by what servers say that they ran;
``tests/backends/test_rights.py`` measures it again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from ..backends.base import OF_DENIAL, OF_FAILURE, Command
from ..keys import Keys
from ..scripts.rights import call_rights
from .base import Context, Operation, by_node

__all__ = ["OF_CLUSTER", "RIGHTS", "ROLES", "Lack", "about_lacking", "commands", "lacking", "rules"]

ROLES = ("track", "read", "collapse", "restore")

_T, _R, _C, _A = (frozenset({role}) for role in ROLES)
RIGHTS = {
    # scripts, and what a server does not know of them yet; who only reads runs one to ask for these rights
    "eval": _T | _R | _C | _A,
    "evalsha": _T | _C | _A,
    # counts, errors and sketches
    "get": _T | _R | _C | _A,
    "mget": _T | _R | _C,
    "set": _T | _C | _A,
    "del": _T | _C | _A,
    "exists": _T | _R | _C | _A,
    "strlen": _T,
    "rename": _C,
    "pfadd": _T | _C | _A,
    "pfcount": _T | _R | _C | _A,
    "pfmerge": _T | _C | _A,
    # for how long sketches are kept
    "ttl": _R | _C | _A,
    "pttl": _T | _A,
    "expire": _C,
    "pexpire": _T | _A,
    "expireat": _C | _A,
    "persist": _C | _A,
    # ids that moved
    "zadd": _T | _A,
    "zcard": _T | _A,
    "zcount": _T | _R | _C | _A,
    "zrange": _T | _A,
    "zrangebyscore": _T | _R,
    "zscore": _T | _A,
    # periods that hold uncounted data, and raw sets of activity-tracker
    "sadd": _T | _C | _A,
    "srem": _C,
    "smembers": _R | _C,
    "smismember": _C,
    "sscan": _R | _C,
    # settings
    "hget": _T | _C | _A,
    "hgetall": _R,
    "hkeys": _C,
    "hscan": _T | _R | _C | _A,
    "hset": _T | _C | _A,
    "hsetnx": _T | _C | _A,
    "hdel": _C,
    # the server itself
    "info": _T | _R | _C,
    "scan": _R | _C,
    "time": _T | _R | _C | _A,
}
"""Commands, and the roles that need them, on one server."""

OF_CLUSTER = ("asking", "cluster|nodes", "cluster|slots")
"""What all need on a cluster besides, on every node: where slots are and go, to ask for one that moves."""

_LOGIN = "on"
_DENIED = re.compile(r"'(eval(?:sha)?)' command")
_NO_SCRIPT: Command = ("EVALSHA", "0" * 40, 0)
"""Of a script that there is not, so nothing is run."""


def commands(roles: Collection[str] = ROLES, *, is_cluster: bool = False) -> list[str]:
    """The commands that some roles need."""
    needed = [command for command, of in RIGHTS.items() if not of.isdisjoint(roles)]
    return sorted([*needed, *OF_CLUSTER] if is_cluster else needed)


def rules(keys: Keys, roles: Collection[str] = ROLES, *, is_cluster: bool = False) -> list[str]:
    """The rights that some roles need, as ``ACL SETUSER`` takes them."""
    return [*keys.patterns(), *(f"+{command}" for command in commands(roles, is_cluster=is_cluster))]


@dataclass(frozen=True, slots=True)
class Lack:
    """A right that the user lacks.

    Attributes:
        right: as ``ACL SETUSER`` takes it, ``+pfadd`` or ``~active:*``; ``on``: a node of a cluster knows no
            user of that name and password.
        node: the address of the node of a cluster; empty for a single server.
    """

    right: str
    node: str = ""


def lacking(context: Context, roles: Collection[str]) -> Operation[tuple[Lack, ...] | None]:
    """The rights that the user lacks; None = the server does not tell, as before Redis 7.0.

    Where the user may run no script, that is all that is known: other rights are asked for by one.
    """
    needed = commands(roles, is_cluster=context.is_cluster)
    unused = context.keys.unused()
    rights = {f"+{command}": f"+{command}" for command in needed}
    rights |= zip((f"~{key}" for key in unused), context.keys.patterns(), strict=True)
    by_script, by_digest = yield [call_rights(needed, unused), _NO_SCRIPT]
    is_told = False
    lacks: list[Lack] = []
    for reply in (by_script, by_digest):
        for node, lines in by_node(reply).items():
            if any(line.startswith(OF_DENIAL) for line in lines):
                lacks.append(Lack(_LOGIN, node))
                continue
            refused = next((line for line in lines if line.startswith(OF_FAILURE)), None)
            denied = _DENIED.search(refused or "")
            found = lines if refused is None else [f"+{denied[1]}"] if denied else []
            lacks += (Lack(right, node) for line in found if (right := rights.get(line)))
            is_told |= refused is None
    return tuple(sorted(dict.fromkeys(lacks), key=lambda lack: lack.node)) if is_told or lacks else None


def about_lacking(lacks: Sequence[Lack] | None) -> Iterator[str]:
    """What is missing, a sentence for the nodes that lack the same."""
    rights_on = {
        node: tuple(lack.right for lack in of) for node, of in groupby(lacks or (), attrgetter("node"))
    }
    for rights in dict.fromkeys(rights_on.values()):
        nodes = [node for node, lacked in rights_on.items() if lacked == rights and node]
        if rights == (_LOGIN,):
            yield (
                f"{', '.join(nodes)} cannot be logged in to: the user or its password is another there"
                " (ACL SETUSER)"
            )
            continue
        where = f" on {', '.join(nodes)}" if nodes else ""
        more = "; what else is missing cannot be found out without +eval" if "+eval" in rights else ""
        yield f"the user lacks rights{where}: {' '.join(rights)} (ACL SETUSER){more}"
