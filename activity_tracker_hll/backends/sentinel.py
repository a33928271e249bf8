"""Clients of the master that Sentinel knows, also after a failover, and of its replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import redis.asyncio.sentinel
import redis.sentinel
from redis.sentinel import MasterNotFoundError

from .connection_options import Servers

__all__ = ["client_of", "sentinels_of"]


class _OfReplicas(redis.sentinel.Sentinel):
    """Finds replicas only: a connection that got to the master for want of one would stay there."""

    def discover_master(self, service_name: str) -> NoReturn:
        raise MasterNotFoundError(f"no replica of {service_name} was found")


class _AsyncOfReplicas(redis.asyncio.sentinel.Sentinel):
    """The same for asyncio."""

    async def discover_master(self, service_name: str) -> NoReturn:
        raise redis.asyncio.sentinel.MasterNotFoundError(f"no replica of {service_name} was found")


def client_of(servers: Servers, options: Mapping[str, Any], *, asynchronous: bool, is_master: bool) -> Any:
    """A client of the master, or of one of its replicas after the other.

    Args:
        options: of connections, to what Sentinel knows; to Sentinel itself those of sockets and TLS.
    """
    wanted = {**servers.options, **options}
    of_sentinels = {name: wanted[name] for name in wanted if name.startswith(("socket_", "ssl"))}
    library = redis.asyncio.sentinel if asynchronous else redis.sentinel
    of_replicas = _AsyncOfReplicas if asynchronous else _OfReplicas
    cls: Any = library.Sentinel if is_master else of_replicas
    sentinel = cls(servers.addresses, sentinel_kwargs=of_sentinels)
    make = sentinel.master_for if is_master else sentinel.slave_for
    return make(servers.service, **wanted)


def sentinels_of(client: Any) -> Sequence[Any]:
    """The clients by which another one asks Sentinel; nobody else closes them."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return getattr(manager, "sentinels", ())
