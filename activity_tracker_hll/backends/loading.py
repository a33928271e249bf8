"""Loading a backend that is given by a name, by the path of a class, or as an instance."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import ActivityTrackerError, ArgumentTypeError, ArgumentValueError
from ..messages import plain_text, printable, shown
from .base import BackendSettings

__all__ = ["load"]

B = TypeVar("B", bound=BackendSettings)


def load(backend: object, options: dict[str, Any], names: Mapping[str, str], kind: type[B]) -> B:
    """Load a backend.

    Args:
        backend: a short name, ``"package.module.Class"``, or an instance.
        options: the arguments for the class.
        names: the classes that have short names, by these.
        kind: the base class that it must have.

    Raises:
        ArgumentTypeError, ArgumentValueError: naming the backend or the option.
        MissingExtraError: it needs an extra that is not installed.
    """
    if isinstance(backend, kind):
        if options:
            raise ArgumentValueError(
                f"backend is an instance, so it cannot be given options: {', '.join(map(printable, options))}"
            )
        return backend
    name = plain_text(backend)
    if name is None:
        raise ArgumentTypeError(
            f"backend must be 'redis', 'embedded', 'package.module.Class' or a {kind.__name__} instance,"
            f" got {shown(backend)}"
        )
    path = names.get(name, name)
    module_name, _, class_name = path.rpartition(".")
    expected = f"backend must be 'redis', 'embedded' or 'package.module.Class', got {shown(name)}"
    # What is no path is not looked for: it may be a URL, and the import's own error would show all of it.
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise ArgumentValueError(expected)
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except ActivityTrackerError:  # an extra is not installed
        raise
    except Exception as error:  # of the module, too
        raise ArgumentValueError(f"{expected} ({printable(str(error))})") from error
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise ArgumentTypeError(f"backend {shown(name)} is not a subclass of {kind.__name__}")
    try:
        return cls(**options)
    except TypeError as error:
        if isinstance(error, ActivityTrackerError):
            raise
        raise ArgumentTypeError(f"backend {shown(name)}: {printable(str(error))}") from error
