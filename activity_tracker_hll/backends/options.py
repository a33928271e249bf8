"""The options of the backends that have a short name, for type checkers and editors.

What they mean is said where they are used: :class:`.base.BackendSettings`, :class:`.redis.RedisBackend`,
:class:`.embedded.EmbeddedBackend`. An option of a client that is not listed here can be given to the class
itself, ``backend=RedisBackend(...)``, which hands on what it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from .base import Keep

__all__ = ["DataOptions", "EmbeddedOptions", "RedisOptions"]


class DataOptions(TypedDict, total=False):
    """What belongs to the data, whatever keeps them."""

    namespace: str
    secret: str | bytes | None
    moved_limit: int
    keep_sketches: Keep


class _ClientOptions(DataOptions, total=False):
    """How a client talks, whatever the address."""

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
    """Of ``backend="redis"``."""

    url: str | None
    host: str
    port: int
    db: int
    unix_socket_path: str | None
    client: Any
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
    """Of ``backend="embedded"``, which has an address of its own."""

    path: str | os.PathLike[str] | None
    executable: str | os.PathLike[str] | None
    start_timeout: float
