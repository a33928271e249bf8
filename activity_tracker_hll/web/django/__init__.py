"""Django middleware and the management command ``collapse_activity``, configured by ``ACTIVITY_TRACKER``.

The command is there if ``"activity_tracker_hll.web.django"`` is in ``INSTALLED_APPS``; the middleware does
not need that. Needs the extra ``django``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ArgumentTypeError, MissingExtraError
from ...messages import shown
from .. import Recorder

try:
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.utils.deprecation import MiddlewareMixin
    from django.utils.module_loading import import_string
except ImportError as error:
    raise MissingExtraError(
        "the middleware for Django needs the extra 'django': pip install 'activity-tracker-hll[django]'"
    ) from error

__all__ = ["SETTING", "ActivityMiddleware", "configured"]

SETTING = "ACTIVITY_TRACKER"
_PARTS = ("tracker", "writer", "identify")
_FAILED = 500


class ActivityMiddleware(MiddlewareMixin):  # type: ignore[misc]  # Django has no types
    """Counts the requests of a Django project; list it after AuthenticationMiddleware in ``MIDDLEWARE``.

    ``settings.ACTIVITY_TRACKER`` is a dict of objects, or their dotted paths:

    - ``writer``, made by ``tracker.buffered()``;
    - ``identify``, called with the HttpRequest once there is a response. ``request.user`` is who is signed in
      then. It may use the database, even under ASGI;
    - ``tracker``, for the command ``collapse_activity``; the middleware does without.

    In this place, `identify` may write into the session too, which SessionMiddleware saves afterwards. So it
    can give an anonymous visitor an id with the first request. Listed before SessionMiddleware, it would be
    too late: each request would be a new visitor's. The key of a session is no such id: a session that has
    just begun has none, an empty one never gets one, and in signed cookies it is another one after each
    change.

    A request that failed (status 500 and above) is not counted, as Django does not save its session: the
    visitor would be a new one the next time, and nobody is signed in by it.

    Args:
        get_response: what Django hands to its middleware.

    Raises:
        ImproperlyConfigured: naming the setting.
    """

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(get_response)
        try:
            self._recorder: Recorder[Any] = Recorder(*configured("writer", "identify"))
        except ArgumentTypeError as error:
            raise ImproperlyConfigured(f"{SETTING}: {error}") from error

    def process_response(self, request: Any, response: Any) -> Any:
        """Record the request, and return the response unchanged."""
        if response.status_code < _FAILED:
            self._recorder.record(request)
        return response


def configured(*parts: str) -> list[Any]:
    """Parts of the setting, imported where they are dotted paths.

    Raises:
        ImproperlyConfigured: naming the setting, and what is missing or not known there.
    """
    given = getattr(settings, SETTING, None)
    if not isinstance(given, Mapping) or not given.keys() >= set(parts):
        raise ImproperlyConfigured(f"{SETTING} must be a dict with {' and '.join(parts)}, got {shown(given)}")
    if unknown := [key for key in given if key not in _PARTS]:
        raise ImproperlyConfigured(f"{SETTING} may have {', '.join(_PARTS)}, got {shown(unknown)}")
    return [_imported(part, given[part]) for part in parts]


def _imported(part: str, given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return import_string(given)
    except ImportError as error:
        raise ImproperlyConfigured(f"{SETTING}[{part!r}] cannot be imported: {error}") from error
