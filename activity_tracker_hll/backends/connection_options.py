"""The options of connections, checked where they are given and not at the first command; addresses.

Of what may hold a password (a URL, a shard, a client) no message shows more than the type. What a client's
own check says is shown unless a password is in it, and its exception is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from redis.connection import parse_url

from ..arguments import attribute, entries, flag, integer, seconds
from ..errors import ActivityTrackerError, ArgumentTypeError, ArgumentValueError
from ..messages import plain_text, printable, shown, type_of
from ..words import did_you_mean
from .trouble import client_text

__all__ = [
    "ADDRESS",
    "Servers",
    "address_of",
    "check_client",
    "check_options",
    "check_shards",
    "refusal",
    "servers_of",
]

ADDRESS = ("url", "host", "port", "db", "unix_socket_path", "client")
"""Options of which a shard's own replace those of all."""

_SCHEMES = ("redis", "rediss", "unix")
_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")
_OTHERS = (
    *("buckets", "aggregate_buckets", "timezone", "week_start"),  # of trackers
    *("namespace", "secret", "moved_limit", "keep_sketches", "shards"),
)
_LAST_PORT, _LAST_DB, _MOST_RETRIES = 65_535, 2**31 - 1, 1000
_NO_HOST = frozenset("@/?#\\ ")
_PLAIN_ERRORS = (TypeError, ValueError)
_SECRETS = ("url", "username", "password", "ssl_password")


def check_shards(shards: object) -> list[dict[str, Any]]:
    """The options of each shard, by themselves."""
    if shards is None:
        return [{}]
    if isinstance(shards, (str, bytes, bytearray, Mapping)) or not isinstance(shards, Sequence):
        raise ArgumentTypeError(
            f"shards must be a list of dicts of connection options, got {type_of(shards)}"
        )
    try:
        checked = [_shard(shard, f"shards[{index}]") for index, shard in enumerate(shards)]
    except ActivityTrackerError:
        raise
    except Exception as error:
        raise ArgumentTypeError(f"shards cannot be iterated over, got {type_of(shards)}") from error
    if not checked:
        raise ArgumentValueError("shards must not be empty")
    return checked


def _shard(shard: object, argument: str) -> dict[str, Any]:
    if not isinstance(shard, Mapping):
        raise ArgumentTypeError(f"{argument} must be a dict of connection options, got {type_of(shard)}")
    options = [(plain_text(name), value) for name, value in entries(shard, argument, "a dict of options")]
    if any(name is None for name, _ in options):
        raise ArgumentTypeError(f"{argument} must have the names of options as its keys")
    return {str(name): value for name, value in options}


def check_options(given: Mapping[str, Any], *, asynchronous: bool) -> dict[str, Any]:
    """The options of one shard, as far as they are known, checked; its client checks the others."""
    options = dict(given)
    for name, value in given.items():
        if name in _CHECKS and (value is not None or name == "retries"):
            options[name] = _CHECKS[name](value, name)
    for exclusive in ("client", "url"):
        others = sorted(set(ADDRESS) & set(options) - {exclusive})
        if options.get(exclusive) is not None and others:
            raise ArgumentValueError(f"{exclusive} cannot be combined with {', '.join(others)}")
    if options.get("client") is not None:
        check_client(options["client"], asynchronous=asynchronous)
    url = options.get("url")
    servers = None if url is None else servers_of(url)
    from_replicas = options.pop("read_from_replicas", None)
    if servers is None and from_replicas:
        raise ArgumentValueError(_ONE_SERVER if options.get("client") is None else _OF_CLIENT)
    if servers is not None:
        options["read_from_replicas"] = servers.from_replicas if from_replicas is None else from_replicas
    return options


def check_client(client: Any, argument: str = "client", *, asynchronous: bool) -> None:
    """Refuse what is not a client, or one of the other kind; it is not shown, as clients print passwords."""
    pool = attribute(client, "nodes_manager") or attribute(client, "connection_pool")
    if pool is None or isinstance(client, type) or hasattr(client, "__aenter__") != asynchronous:
        raise ArgumentTypeError(
            f"{argument} must be {'an asyncio' if asynchronous else 'a synchronous'} client of redis-py or"
            f" valkey-py, standalone, Sentinel's or a cluster's, got {type_of(client)}"
        )
    encoding = attribute(pool, "connection_kwargs") and pool.connection_kwargs.get("encoding")
    if encoding is not None:
        _check_encoding(encoding, f"{argument}: encoding")


def _check_url(url: object, argument: str) -> str:
    """Refuse a URL that would be taken for another one: clients ignore what they do not understand."""
    text = _check_text(url, argument)
    if not text.isprintable():
        raise ArgumentValueError(_URL_FORM.format(argument))
    if text.partition("://")[0] in _OF_SEVERAL:
        servers_of(text, argument)
        return text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # Without that error, which shows a part of the password.
        raise ArgumentValueError(_URL_FORM.format(argument)) from None
    if parts.scheme not in _SCHEMES:
        return text
    is_socket = parts.scheme == "unix"
    if parts.fragment or (not is_socket and "@" in parts.path + parts.query):
        raise ArgumentValueError(_URL_FORM.format(argument))
    if not is_socket:
        if parts.hostname:
            _check_host(unquote(parts.hostname), f"{argument}: the host")
        if port is not None:
            _check_port(port, f"{argument}: the port")
        if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
            raise ArgumentValueError(f"{argument}: the database must be a number, as in redis://host:6379/0")
    if "read_from_replicas" in parse_qs(parts.query, keep_blank_values=True):
        raise ArgumentValueError(_ONE_SERVER)
    return text


class Servers(NamedTuple):
    """What a URL of several servers says.

    Attributes:
        kind: ``cluster`` or ``sentinel``.
        addresses: hosts and ports.
        service: the name of the master that Sentinel knows.
        options: the options of connections: user, password, database, TLS.
        from_replicas: whether replicas answer who only reads.
    """

    kind: str
    addresses: list[tuple[str, int]]
    service: str
    options: dict[str, Any]
    from_replicas: bool


def servers_of(url: str, argument: str = "url") -> Servers | None:
    """What a URL of a cluster, or of a master that Sentinel knows, says; None of any other.

    Raises:
        ArgumentValueError: it is none that could be meant; it is not shown, as it may hold a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _OF_SEVERAL:
        return None
    kind = scheme.partition("+")[2]
    wrong = ArgumentValueError(_FORMS[kind].format(argument))
    userinfo, at, where = rest.rpartition("@")
    where, _, query = where.partition("?")
    hosts, _, path = where.partition("/")
    service, _, db = path.rstrip("/").partition("/")
    options: dict[str, Any] = {"ssl": True} if scheme.startswith("rediss") else {}
    if not hosts or "#" in where + query or bool(service) != (kind == "sentinel"):
        raise wrong
    options |= _of_query(query, wrong)
    if db and not db.isdecimal():
        raise ArgumentValueError(f"{argument}: the database must be a number, as in /service/0")
    if db:
        options["db"] = int(db)
    if at:
        username, colon, password = userinfo.partition(":")
        if username:
            options["username"] = unquote(username)
        if colon:
            options["password"] = unquote(password)
    addresses: list[tuple[str, int]] = []
    for address in hosts.split(","):
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise wrong
        host, port = unquote(found[1] or found[2]), int(found[3] or _PORTS[kind])
        _check_host(host, f"{argument}: the host")
        addresses.append((host, integer(port, f"{argument}: the port", minimum=1, maximum=_LAST_PORT)))
    from_replicas = str(options.pop("read_from_replicas", "false")).lower()
    if from_replicas not in _FLAGS:
        raise ArgumentValueError(f"{argument}: read_from_replicas must be true or false")
    return Servers(kind, addresses, unquote(service), options, _FLAGS[from_replicas])


def _of_query(query: str, wrong: ArgumentValueError) -> dict[str, Any]:
    """The options in the query of a URL, as the client reads them in that of a single server."""
    if not query:
        return {}
    try:
        return dict(parse_url(f"redis://?{query}"))  # type: ignore[no-untyped-call]
    except ValueError:
        raise wrong from None


_OF_SEVERAL = ("redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
_ADDRESS = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d{1,9}))?", re.ASCII)
_PORTS = {"cluster": 6379, "sentinel": 26379}
_FLAGS = {"true": True, "false": False}
_ONE_SERVER = (
    "read_from_replicas is for a URL of several servers (redis+cluster://, redis+sentinel://), as the"
    " replicas of a single one are not known; to read from a replica, give its address"
)
_OF_CLIENT = (
    "read_from_replicas cannot be combined with client; a cluster client that reads from replicas does so"
    " here, too"
)
_FORMS = {
    "cluster": "{} must look like redis+cluster://user:password@host:6379,host:6379, with numbers for the"
    " ports",
    "sentinel": "{} must look like redis+sentinel://user:password@host:26379,host:26379/service/0, with"
    " numbers for the ports and the name of the master that Sentinel knows",
}
_URL_FORM = (
    "{} must look like redis://user:password@host:6379/0, with a number for the port; characters such as"
    " # / ? @ : in a password must be percent-encoded (urllib.parse.quote(password, safe=''))"
)


def refusal(error: Exception, options: Mapping[str, Any]) -> ActivityTrackerError:
    """The error for options that the client itself refuses."""
    text = client_text(error) if type(error) not in _PLAIN_ERRORS else str(error)
    if not text or any(secret in text for secret in _secrets(options)):
        text = f"not accepted by the client ({type_of(error)})"
    kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentValueError
    unknown = _UNKNOWN.search(text)
    hint = ""
    if unknown:
        name = unknown[1]
        hint = (
            " (it is one of backend='embedded')"
            if name == "path"
            else did_you_mean(name, [*_OTHERS, *_CHECKS])
        )
    return kind(f"connection options: {printable(text)}{hint}")


def _secrets(options: Mapping[str, Any]) -> list[str]:
    """What no message may show, in each spelling."""
    found = [options[name] for name in _SECRETS if options.get(name)]
    texts = [part.decode("latin1") if isinstance(part, bytes) else str(part) for part in found]
    for userinfo in [text.partition("://")[2].rpartition("@")[0] for text in texts]:
        texts += [part for spelling in (userinfo, unquote(userinfo)) for part in spelling.split(":")]
    return [text for text in texts if text]


def address_of(client: Any) -> str:
    """The address of a client, without the password that its own repr may show."""
    pool = client.connection_pool
    options = getattr(pool, "connection_kwargs", {})
    if "path" in options:
        db = options.get("db")
        where = f"{options['path']} (database {db})" if db else options["path"]
    elif "host" in options:
        where = f"{options['host']}:{options.get('port', 6379)}/{options.get('db', 0)}"
    else:
        where = str(getattr(pool, "service_name", type(client).__name__))
    return printable(where)


# Checks of single options


def _check_text(value: object, argument: str) -> str:
    """A str that can be sent; it is not shown."""
    text = plain_text(value)
    if text is None:
        raise ArgumentTypeError(f"{argument} must be a str, got {type_of(value)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ArgumentValueError(f"{argument} cannot be encoded as UTF-8") from None
    return text


def _check_password(value: object, argument: str) -> str | bytes:
    return value if type(value) is bytes else _check_text(value, argument)


def _check_host(value: object, argument: str) -> str:
    host = _check_text(value, argument)
    # Not shown with an @ in it: that is a URL, or its userinfo.
    got = "" if "@" in host else f", got {shown(host)}"
    if not host or not host.isprintable() or not _NO_HOST.isdisjoint(host):
        raise ArgumentValueError(f"{argument} must be a name or an address (for a URL, there is url=){got}")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ArgumentValueError(f"{argument} is no name that a host can have{got}") from error
    return host


def _check_port(value: object, argument: str) -> int:
    text = plain_text(value)
    if text is not None and text.isascii() and text.isdecimal():
        value = int(text[:9])  # from the environment, say; the client makes a number of it too
    return integer(value, argument, minimum=1, maximum=_LAST_PORT)


def _check_encoding(value: object, argument: str) -> str:
    name = _check_text(value, argument)
    try:
        fits = "PING".encode(name) == b"PING"
    except (LookupError, ValueError):
        fits = False
    if not fits:
        raise ArgumentValueError(
            f"{argument} must be utf-8 or another in which ASCII is ASCII, got {shown(name)}"
        )
    return name


def _check_credential_provider(value: object, argument: str) -> object:
    if not callable(attribute(value, "get_credentials")):
        raise ArgumentTypeError(f"{argument} must have a method get_credentials, got {type_of(value)}")
    return value


_CHECKS: dict[str, Callable[[Any, str], object]] = {
    "url": _check_url,
    "host": _check_host,
    "port": _check_port,
    "db": lambda value, name: integer(value, name, minimum=0, maximum=_LAST_DB),
    "unix_socket_path": _check_text,
    "username": _check_text,
    "password": _check_password,
    "ssl_password": _check_password,
    "credential_provider": _check_credential_provider,
    "client_name": _check_text,
    "encoding": _check_encoding,
    "socket_timeout": seconds,
    "socket_connect_timeout": seconds,
    "max_connections": lambda value, name: integer(value, name, minimum=1, maximum=_LAST_DB),
    "read_from_replicas": flag,
    "retries": lambda value, name: integer(value, name, minimum=0, maximum=_MOST_RETRIES),
}
