"""Who was active."""

from django.conf import settings

from activity_tracker_hll.web import Activity


def identify(request):
    sent = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not request.user.is_authenticated:
        key = request.session.session_key
        return Activity(key, "anon") if key else None
    just_signed_in = sent and sent != request.session.session_key
    return Activity(request.user.get_username(), "member", sent if just_signed_in else None, "anon")
