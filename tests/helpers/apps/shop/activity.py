"""Who was active."""

from activity_tracker_hll.web import Activity


def identify(request):
    session = request.session
    if request.user.is_authenticated:
        return Activity(request.user.get_username(), "member", session.pop("visitor", None), "anon")
    return Activity(session["visitor"], "anon") if "visitor" in session else None  # a view gives it
