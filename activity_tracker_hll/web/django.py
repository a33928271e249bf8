"""Django middleware, configured by the setting ``ACTIVITY_TRACKER``.

Needs the extra ``django``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ArgumentTypeError, MissingExtraError
from ..messages import shown
from . import Recorder

try:
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.utils.deprecation import MiddlewareMixin
    from django.utils.module_loading import import_string
except ImportError as error:
    raise MissingExtraError(
        "the middleware for Django needs the extra 'django': pip install 'activity-tracker-hll[django]'"
    ) from error

__all__ = ["ActivityMiddleware"]

_SETTING = "ACTIVITY_TRACKER"
_PARTS = ("writer", "identify")


class ActivityMiddleware(MiddlewareMixin):  # type: ignore[misc]  # Django has no types
    """Counts the requests of a Django project; list it after AuthenticationMiddleware in ``MIDDLEWARE``.

    ``settings.ACTIVITY_TRACKER`` is a dict of two objects, or their dotted paths:

    - ``writer``, made by ``tracker.buffered()``;
    - ``identify``, called with the HttpRequest once there is a response. ``request.user`` is who is signed in
      then; the session cookie is still the old one, although signing in gives the session a new key. It may
      use the database, even under ASGI.

    Args:
        get_response: what Django hands to its middleware.

    Raises:
        ImproperlyConfigured: naming the setting.
    """

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(get_response)
        try:
            self._recorder: Recorder[Any] = Recorder(*_configured())
        except ArgumentTypeError as error:
            raise ImproperlyConfigured(f"{_SETTING}: {error}") from error

    def process_response(self, request: Any, response: Any) -> Any:
        """Record the request, and return the response unchanged."""
        self._recorder.record(request)
        return response


def _configured() -> list[Any]:
    """The writer and the function that identifies requests, from the setting."""
    given = getattr(settings, _SETTING, None)
    if not isinstance(given, Mapping) or set(given) != set(_PARTS):
        raise ImproperlyConfigured(
            f"{_SETTING} must be a dict with {' and '.join(_PARTS)}, got {shown(given)}"
        )
    return [_imported(part, given[part]) for part in _PARTS]


def _imported(part: str, given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return import_string(given)
    except ImportError as error:
        raise ImproperlyConfigured(f"{_SETTING}[{part!r}] cannot be imported: {error}") from error
