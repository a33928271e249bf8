"""What the exceptions of clients and the error replies of servers mean, and what to do about them.

Exceptions are recognized by name, as redis-py and valkey-py have classes of the same names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import (
    BackendAuthError,
    BackendConnectionError,
    BackendDataError,
    BackendError,
    BackendResponseError,
    BackendTimeoutError,
)
from ..messages import printable, type_of

__all__ = [
    "check_reply",
    "client_text",
    "code_of",
    "is_denied",
    "is_denied_in_silence",
    "naming",
    "raise_if_absent",
    "raise_if_denied",
    "translated",
]

# Clients remove these codes from the message, and have a class for each; redis-py 5 to 7 not all of them.
_CODES = {
    "ReadOnlyError": "READONLY",
    "NoScriptError": "NOSCRIPT",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "BusyLoadingError": "LOADING",
    "MaxClientsError": "MAXCLIENTS",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
}
# Redis before 7.0 wraps the error of a command in a script into a message of its own.
_IN_SCRIPT = re.compile(r"^(?:ERR )?Error running script \(call to f_\w+\): @user_script: ?[^:]*: ")
# For commands in a script, Redis 7.0 and Valkey omit the code NOPERM.
_DENIED_IN_SCRIPT = re.compile("user executing the script can't|ACL failure in script")
# Redis before 7.2 does not say which command.
_SILENT = "user executing the script can't run this command"
_DENIED_COMMAND = re.compile(r"run the '([\w|-]+)' command")
_DENIED_KEY = re.compile("permissions to access|access at least one of the keys")
# Errors about what a key holds. All others (OOM, MISCONF, BUSY, CLUSTERDOWN, TRYAGAIN...) concern the server.
_ABOUT_DATA = {"WRONGTYPE", "INVALIDOBJ"}
_DENIED = {"AuthenticationError", "AuthorizationError"}
_UNREACHABLE = {"ConnectionError", "OSError", "InvalidResponse", "ProtocolError", "UnicodeError"}
_NO_PASSWORD = re.compile("HELLO must be called|Authentication required|NOAUTH")
_NEEDS_NONE = re.compile("without any password configured|no password is set")
_USER = re.compile(r"\bUser \S+ has no permissions")
_CLIENT = re.compile(r"<\w+\.[\w.]*Redis\(.*>")
_ABSENT = (ConnectionRefusedError, FileNotFoundError)
_CLIENT_MODULES = ("redis", "valkey", "hiredis", "fakeredis")

_ADVICE = {
    "READONLY": "is a replica and takes no writes: connect to the master",
    "MISCONF": "cannot save its data to disk, and takes no writes until it can: free its disk, see its log",
    "OOM": "has used up its memory (maxmemory): give it more, or let it keep less",
    "LOADING": "is still loading its data from disk: try again later",
    "MAXCLIENTS": "has as many clients as it may (maxclients): close some, or let it have more",
    "NOREPLICAS": "reaches too few of its replicas, and takes no writes until it does",
    "TRYAGAIN": "is giving the slot of these keys to another node: try again when that is done",
    "CLUSTERDOWN": "cannot use its cluster: no node serves the slot, or too few are there (CLUSTER INFO)",
    "BUSY": "is busy with a script that takes too long: wait, or end it by SCRIPT KILL",
    "NOPERM": "does not allow that to this user: {}, or give another username=",
    "NOAUTH": "wants a password: give password= (and username=), or put them into the URL",
    "WRONGPASS": "refuses the password: it is wrong, or there is no such user",
    "UNWANTED": "wants no password, and none must be given: or is it another server?",
}
_ASK = "the command doctor names the rights that are missing"
_PAIR = " of its clients (ssl_certfile=, ssl_keyfile=)"
_CONNECTION_ADVICE = (
    (re.compile("max number of clients"), _ADVICE["MAXCLIENTS"]),
    (
        re.compile("Too many connections|No connection available"),
        "is not asked, as this client uses all connections it may have (max_connections=): let it have more",
    ),
    (
        re.compile("ALERT_CERTIFICATE_REQUIRED|ALERT_HANDSHAKE_FAILURE"),
        "wants a certificate" + _PAIR,
    ),
    (
        re.compile("VERIFY_FAILED.* (?:Hostname|IP address) mismatch"),
        "shows a certificate of another name: connect to it by the name that is in it",
    ),
    (re.compile("VERIFY_FAILED.* has expired"), "shows a certificate that has expired"),
    (
        re.compile("VERIFY_FAILED"),
        "shows a certificate that is not trusted here: give that of its authority by ssl_ca_certs=",
    ),
    (
        re.compile("KEY_VALUES_MISMATCH|PEM lib|bad decrypt|NO_START_LINE", re.IGNORECASE),
        "is not asked, as ssl_certfile=, ssl_keyfile= and ssl_password= do not belong together",
    ),
    (
        # A host and port, not the path of a socket.
        re.compile(r"connecting to [^/\s]+:\d+\. .*No such file"),
        "is not asked, as there is no such file: ssl_ca_certs=, ssl_certfile= or ssl_keyfile=",
    ),
    (
        re.compile("closed by server|reset by peer|Connection lost|EOF occurred in violation|Broken pipe"),
        "closed the connection: it has ended, or ends idle ones, or expects TLS (rediss://) or a certificate"
        + _PAIR,
    ),
    (
        re.compile(r"SSL|certificate", re.IGNORECASE),
        "cannot be spoken to by TLS: does it expect TLS, and is its certificate trusted (ssl_ca_certs=)?",
    ),
    (
        re.compile(r"Protocol error|reply type byte", re.IGNORECASE),
        "does not answer as a Redis server: another program listens there, or it expects TLS (rediss://)",
    ),
)


def check_reply(error: Exception) -> None:
    """Re-raise an exception unless it is the reply to one command; all others concern the connection."""
    if "ResponseError" not in _names(error):
        raise error


def raise_if_denied(error: Exception) -> None:
    """Re-raise an exception that no retry can help, although clients treat it as a ConnectionError."""
    if is_denied(error):
        raise error


def raise_if_absent(error: Exception) -> None:
    """Likewise, and one that says that nobody listens on a Unix socket: time to start the server."""
    raise_if_denied(error)
    if any(isinstance(one, _ABSENT) for one in (error, error.__context__)):
        raise error


def is_denied(error: Exception) -> bool:
    """Whether access was denied, also by the cause: redis-py for asyncio wraps errors on a Unix socket."""
    return any(not _DENIED.isdisjoint(_names(one)) for one in (error, error.__cause__))


def code_of(error: Exception) -> str:
    """The code of an error reply: its first word, unless the client has removed it."""
    name = type(error).__name__
    if name != "ResponseError":
        return _CODES.get(name, "")
    return _IN_SCRIPT.sub("", str(error)).partition(" ")[0]


def is_denied_in_silence(error: Exception) -> bool:
    """Whether a command in a script was denied, and the server does not say which."""
    return _SILENT in str(error)


def naming(error: Exception, commands: Sequence[str]) -> Exception:
    """The same error, with a text that names the commands that were denied, if any are known."""
    denied = ", ".join(f"run the '{command}' command" for command in commands)
    return type(error)(f"The user executing the script can't {denied}") if denied else error


def translated(error: Exception, address: str = "", patterns: Sequence[str] = ()) -> BackendError:
    """The BackendError for a client's exception, which becomes its cause.

    Args:
        error: the exception.
        address: where the server is, for the message.
        patterns: the rights to keys that a user needs.
    """
    names, code, text = _names(error), code_of(error), client_text(error) or type_of(error)
    kind: type[BackendError]
    advice = _ADVICE.get(code, "")
    if is_denied(error) or code == "NOPERM" or _DENIED_IN_SCRIPT.search(text):
        kind = BackendAuthError
        advice = _ADVICE[_denial(error, code, text)].format(_missing(text, patterns))
    elif "TimeoutError" in names:
        kind = BackendTimeoutError
        advice = "does not answer in time (socket_timeout)"
        if "connecting" in text:
            advice += ", or not to TLS if that was asked for"
    elif not _UNREACHABLE.isdisjoint(names):
        kind = BackendConnectionError
        found = (advice for pattern, advice in _CONNECTION_ADVICE if pattern.search(text))
        advice = advice or next(found, "cannot be reached")
    elif "ResponseError" in names:
        kind = BackendDataError if code in _ABOUT_DATA else BackendResponseError
    else:
        kind = BackendError
    result = kind(_sentence(address, advice, printable(text)))
    result.__cause__ = error
    return result


def client_text(error: Exception) -> str:
    """What an exception says, if it is a client's or the system's; others may tell a password."""
    kind = type(error)
    if kind.__module__.partition(".")[0] not in _CLIENT_MODULES and not _is_of_system(error):
        return ""
    text = _CLIENT.sub("none of the Sentinels told", str(error))  # a client's own words hold its options
    return _USER.sub("this user has no permissions", text)


def _missing(text: str, patterns: Sequence[str]) -> str:
    """What to do about a right that is missing."""
    rights = [f"+{command}" for command in _DENIED_COMMAND.findall(text)]
    if not rights and _DENIED_KEY.search(text):
        rights = list(patterns)
    return f"give the user {' '.join(rights)}" if rights else _ASK


def _is_of_system(error: Exception) -> bool:
    return type(error).__module__ in ("builtins", "socket", "ssl") and isinstance(
        error, (OSError, UnicodeError)
    )


def _sentence(address: str, advice: str, text: str) -> str:
    if not advice:
        return f"{address}: {text}" if address else text
    return f"{address or 'the server'} {advice} ({text})"


def _denial(error: Exception, code: str, text: str) -> str:
    """Why access was denied, as a key of the advice."""
    text = f"{text} {error.__cause__ or ''}"
    if _NO_PASSWORD.search(text):
        return "NOAUTH"
    if _NEEDS_NONE.search(text):
        return "UNWANTED"
    return "WRONGPASS" if code != "NOPERM" and not _DENIED_IN_SCRIPT.search(text) else "NOPERM"


def _names(error: BaseException | None) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}
