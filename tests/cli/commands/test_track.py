"""The command track."""

from helpers.command_line import counts


def test_track_moves_and_removes(run):
    day = ("--date", "2020-01-01", "--period", "daily")
    run("track", "session", "--bucket", "anonymous", *day)
    run("track", "user", "--bucket", "members", "--old-id", "session", "--old-bucket", "anonymous", *day)
    assert counts(run, "--live") == {("2020-01-01", "anonymous"): 0, ("2020-01-01", "members"): 1}
    run("track", "--old-id", "user", "--old-bucket", "members", *day)
    assert counts(run, "--live")["2020-01-01", "members"] == 0
    run("track", "now")
    assert 1 in counts(run, "--live").values()
