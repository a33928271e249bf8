"""The command doctor."""

from datetime import datetime


def test_doctor_on_nothing_and_on_data(run, tracker):
    result = run("doctor", "--strict")
    assert "Valkey 9" in result.stdout
    assert "append-only file" in result.stdout
    assert "No data in this namespace." in result.stdout
    assert "No warnings." in result.stdout
    tracker.track_many(range(100), ["daily", "monthly"], bucket="a", date=datetime(2020, 1, 1))
    result = run("doctor")
    assert "Warning: 2 periods that are over are not collapsed (2 counts): run collapse" in result.stdout
    assert "Memory of sketches" in result.stdout
    run("doctor", "--strict", status=1)


def test_doctor_warns_of_a_dangerous_server(run, tracker):
    execute, keys = tracker.backend.execute, tracker.backend.keys
    tracker.track_many(range(100), date=datetime(2020, 1, 1))
    with_count = keys.bucket("daily-20200101", None)
    raw = keys.bucket("daily-20200102", "b")
    execute(
        [
            ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
            ("CONFIG", "SET", "maxmemory", "2mb"),
            ("CONFIG", "SET", "appendonly", "no"),
            ("SET", with_count.counted, "100"),
            ("SET", raw.counted, "5"),
            ("SADD", raw.raw, "x"),
        ]
    )
    shown = run("doctor").stdout
    for warning in (
        "maxmemory-policy allkeys-lru evicts any sketch when the memory is full",
        "no persistence",
        "1 collapsed sketch never expires, such as daily-20200101 bucket (all): collapse_due(), at the",
        "gives them an end, or says why not; that this is meant says keep_sketches=None (--keep",
        "1 raw set of activity-tracker beside a count",
    ):
        assert warning in shown
    # What must not be asked is unknown, not an error.
    execute([("ACL", "SETUSER", "default", "-config", "-info", "-memory")])
    shown = run("doctor").stdout
    assert shown.count("unknown") >= 4
    execute([("ACL", "SETUSER", "default", "+config", "+info", "+memory")])
