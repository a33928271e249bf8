"""What makes the package an app of Django, so that its command is found."""

from django.apps import AppConfig

__all__ = ["ActivityTrackerConfig"]


class ActivityTrackerConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """An app without models or pages."""

    name = "activity_tracker_hll.web.django"
    label = "activity_tracker_hll"
    verbose_name = "Active users"
