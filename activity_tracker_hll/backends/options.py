"""The options of the backends that have a short name, for type checkers and editors.

They are documented where they are used: :class:`.base.BackendSettings`, :class:`.redis.RedisBackend`,
:class:`.embedded.EmbeddedBackend`. Options of a client that are not listed here can be given to the class
itself, ``backend=RedisBackend(...)``, which passes them to the client.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from .base import Keep

__all__ = ["DataOptions", "EmbeddedOptions", "RedisOptions"]


class DataOptions(TypedDict, total=False):
    """The options that belong to the data, whatever the backend."""

    namespace: str
    secret: str | bytes | None
    moved_limit: int
    keep_sketches: Keep


class _ClientOptions(DataOptions, total=False):
    """The options of a client, whatever its address."""

    redis_client: Callable[..., Any] | None
    retries: int
    shards: Sequence[Mapping[str, Any]] | None
    socket_timeout: float | None
    username: str | None
    password: str | None
    client_name: str | None
    max_connections: int | None
    health_check_interval: float
    protocol: int | None


class RedisOptions(_ClientOptions, total=False):
    """The options of ``backend="redis"``."""

    url: str | None
    host: str
    port: int
    db: int
    unix_socket_path: str | None
    client: Any
    read_from_replicas: bool
    socket_connect_timeout: float | None
    socket_keepalive: bool | None
    socket_keepalive_options: Mapping[int, int | bytes] | None
    credential_provider: Any
    ssl: bool
    ssl_keyfile: str | None
    ssl_certfile: str | None
    ssl_cert_reqs: Any
    ssl_ca_certs: str | None
    ssl_ca_path: str | None
    ssl_ca_data: str | None
    ssl_check_hostname: bool
    ssl_password: str | None
    ssl_min_version: Any
    ssl_ciphers: str | None


class EmbeddedOptions(_ClientOptions, total=False):
    """The options of ``backend="embedded"``, which has no address to choose."""

    path: str | os.PathLike[str] | None
    executable: str | os.PathLike[str] | None
    start_timeout: float
