"""The command demo, and its made-up traffic."""

from datetime import date, datetime

from activity_tracker_hll.cli.traffic import Move, Traffic, Visits
from helpers.command_line import invoke


def test_demo_on_a_server_of_its_own_and_among_data(run, tracker):
    small = ("demo", "--days", "3", "--users", "300", "--seed", "5")
    alone = invoke(list(small))
    assert alone.exit_code == 0, alone.output
    assert "everyone" in alone.stdout
    assert alone.stdout.rstrip().splitlines()[-4].startswith("Next, ")
    tracker.track(id="x", date=datetime(2020, 1, 1))
    before = set(tracker.backend.execute([("KEYS", "*")])[0])
    assert "Months" in run(*small).stdout
    assert set(tracker.backend.execute([("KEYS", "*")])[0]) == before


def test_moves_of_the_demo_have_moments_of_their_own():
    """Of one moment, activity would count and not leaving."""
    last: dict[str, datetime] = {}
    moved = 0
    for events in Traffic(date(2026, 1, 1), days=3, users=3000, seed=5).by_day():
        for event in events:
            for id in [event.id, event.old_id] if isinstance(event, Move) else event.ids:
                assert isinstance(event, Visits) or id not in last or last[id] < event.moment
                last[id] = event.moment
            moved += isinstance(event, Move)
    assert moved > 20
