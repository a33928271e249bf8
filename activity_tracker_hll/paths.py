"""Paths that callers give: what is one, and why a place cannot be used. Nothing is opened here."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ArgumentTypeError, ArgumentValueError
from .messages import plain_text, printable, shown

__all__ = ["Place", "path_text"]

_SENTENCES = {
    errno.EISDIR: "{it} is a directory",
    errno.EEXIST: "{it} is a file, not a directory",  # of a directory that was to be made
    errno.ENOTDIR: "{it} is below what is not a directory",
    errno.EACCES: "permission to use {it} is denied",
    errno.EPERM: "permission to use {it} is denied",
    errno.EROFS: "{it} is on a read-only file system",
    errno.ENOSPC: "the disk is full",
    errno.ELOOP: "links lead in a circle",
}


class Place(NamedTuple):
    """A file or directory that a caller names.

    Attributes:
        path: of it, with the home directory in place of ``~``.
        shown: as messages show it: what was given may be a URL with a password.
    """

    path: Path
    shown: str

    @classmethod
    def of(cls, given: object, what: str, argument: str = "path") -> Place:
        """The place that a caller means.

        Args:
            given: a path.
            what: of what: "a file" or "a directory".
            argument: its name.

        Raises:
            ArgumentTypeError, ArgumentValueError: it is no path, by that name.
        """
        text = path_text(given, what, argument)
        if not text:
            raise ArgumentValueError(f"{argument} must not be empty: it is to name {what}")
        path = Path(text)
        if what == "a file" and not path.name:
            raise ArgumentValueError(f"{argument} must name a file, got {_told(text)}")
        return cls(path, _told(text))

    def why(self, error: OSError) -> str:
        """Why it cannot be used: the end of a sentence.

        Args:
            error: the system's; of the place, of a file in it, or of one beside it that is to take its name.
        """
        name = (
            "" if error.filename is None or isinstance(error.filename, int) else os.fsdecode(error.filename)
        )
        is_url = _is_url(str(self.path))
        it = _told(name) if name and Path(name).parent == self.path and not is_url else "it"
        if error.errno == errno.ENOENT:
            folder = self.path.parent
            return (
                "there is no such file or directory"
                if is_url or os.path.lexists(folder)
                else f"there is no directory {_told(str(folder))}"
            )
        sentence = _SENTENCES.get(error.errno or 0)
        return sentence.format(it=it) if sentence else error.strerror or str(error)


def path_text(given: Any, what: str, argument: str) -> str:
    """The text of a path that the operating system can be asked about, with the home directory for ``~``.

    Args:
        given: a str of any class, or an ``os.PathLike``.
        what: of what it is the path, with an article.
        argument: its name.

    Raises:
        ArgumentTypeError, ArgumentValueError: it is no path, by that name.
    """
    text = plain_text(given)
    if text is None:
        try:  # not os.fspath(), which takes bytes too
            text = str.__str__(os.fsdecode(type(given).__fspath__(given)))
        except Exception as error:
            raise ArgumentTypeError(
                f"{argument} must be {what} (str or os.PathLike), got {shown(given)}"
            ) from error
    why = ""
    try:
        if "\0" in text:
            why = "it has a NUL byte"
        elif os.fsencode(text).startswith(b"~"):
            return str(Path(text).expanduser())
    except UnicodeEncodeError:
        why = "the system cannot encode it"
    except RuntimeError:
        why = "there is no such home directory"
    if why:
        raise ArgumentValueError(f"{argument} must be {what}, got {_told(text)}: {why}")
    return text


def _told(path: str) -> str:
    """A path as messages show it: to its end, unless it is a URL, which may have a password."""
    if not _is_url(path):
        return printable(repr(path))
    return shown(path if "://" in path else path.replace(":/", "://", 1))


def _is_url(path: str) -> bool:
    """Whether it looks like one; as a path it has a single slash behind the colon."""
    return ":/" in path
