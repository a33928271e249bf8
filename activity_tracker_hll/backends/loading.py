"""Loading a backend that is given by a name, by the path of a class, or as an instance."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import ArgumentTypeError, ArgumentValueError, MissingExtraError
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
                f"backend is an instance, so it cannot be given options: {', '.join(options)}"
            )
        return backend
    if not isinstance(backend, str):
        raise ArgumentTypeError(
            f"backend must be 'redis', 'embedded', 'package.module.Class' or a {kind.__name__} instance,"
            f" got {backend!r}"
        )
    module_name, _, class_name = names.get(backend, backend).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except MissingExtraError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentValueError(
            f"backend must be 'redis', 'embedded' or 'package.module.Class', got {backend!r} ({error})"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise ArgumentTypeError(f"backend {backend!r} is not a subclass of {kind.__name__}")
    try:
        return cls(**options)
    except TypeError as error:
        if isinstance(error, ArgumentTypeError):
            raise
        raise ArgumentTypeError(f"backend {backend!r}: {error}") from error
