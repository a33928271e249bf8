"""The command collapse."""

from datetime import datetime

from helpers.command_line import counts


def test_collapse_does_what_is_held_and_no_more(run, tracker):
    for day, site in ((1, "site1"), (2, "site1"), (9, "site2"), (10, "site1"), (10, "site2")):
        tracker.track_many(range(day * 10), bucket=site, date=datetime(2020, 1, day))
    union = ("--aggregate", "total=site1,site2")
    result = run("collapse", *union, "--bucket", "site1", "--bucket", "nobody", status=1)
    assert "no such bucket 'nobody' (there are: site1, site2)" in result.stderr
    run("collapse", *union, "--bucket", "site1")
    found = counts(run)
    days = {(f"2020-01-{day:02}", bucket) for day, bucket in ((1, "site1"), (2, "site1"), (10, "site1"))}
    assert {of for of, count in found.items() if count is not None and of[1] == "site1"} == days
    assert [found[f"2020-01-{day:02}", "total"] for day in (1, 2, 9, 10)] == [10, 20, 90, 100]
    assert 0 not in found.values()


def test_collapse_of_a_window_and_again(run, tracker):
    for day in (1, 2, 3):
        tracker.track(id="x", date=datetime(2026, 1, day))
    keep = ("--timezone", "UTC", "--keep-sketches", "forever")
    run("collapse", "--date", "2026-01-03", "--max-periods", "1", options=keep)
    assert list(counts(run, "--no-live")) == [("2026-01-02", None)]
    tracker.track(id="y", date=datetime(2026, 1, 2))
    assert (
        "1 count stored" in run("collapse", "--max-periods", "2", "--date", "2026-01-03", options=keep).stdout
    )
    assert counts(run)["2026-01-02", None] == 1
    assert "1 count stored" in run("collapse", options=keep).stdout
    run("collapse", "--recount", options=keep)
    assert counts(run) == {("2026-01-01", None): 1, ("2026-01-02", None): 2, ("2026-01-03", None): 1}


def test_collapse_names_what_failed_and_does_the_rest(run, tracker):
    tracker.track_many(range(5), bucket="good", date=datetime(2020, 1, 1))
    tracker.track_many(range(5), bucket="bad", date=datetime(2020, 1, 1))
    tracker.backend.execute([("SET", tracker.backend.keys.bucket("daily-20200101", "bad").hll, "no sketch")])
    result = run("collapse", status=1)
    assert "Failed: daily-20200101, bucket bad: " in result.stderr
    assert "1 not collapsed, all others are." in result.stderr
    assert "1 count stored." in result.stdout
    assert counts(run, "--bucket", "good") == {("2020-01-01", "good"): 5}


def foreign(tracker, day, bucket, ids, stored):
    """A count that another program stored, and a sketch beside it that it knew nothing of."""
    tracker.track_many(range(ids), bucket=bucket, date=datetime(2020, 1, day))
    tracker.backend.execute(
        [("SET", tracker.backend.keys.bucket(f"daily-202001{day:02}", bucket).counted, stored)]
    )


def test_collapse_names_counts_that_another_program_made(run, tracker):
    foreign(tracker, 1, "more", 50, 7)
    foreign(tracker, 2, "less", 7, 50)
    foreign(tracker, 3, "zero", 7, 0)
    foreign(tracker, 4, "same", 7, 7)
    assert "3 collapsed sketches never expire" in run("doctor").stdout
    result = run("collapse", status=1)
    more, less = (line for line in result.stderr.splitlines() if line.startswith("Failed: "))
    assert more.startswith("Failed: daily-20200101, bucket more: ")
    assert "50" in more
    assert "--recount" in more
    assert "recount=True" not in more
    assert less.startswith("Failed: daily-20200102, bucket less: ")
    assert "--recount" not in less
    assert "2 not collapsed, all others are." in result.stderr
    assert counts(run, "--bucket", "zero") == {("2020-01-03", "zero"): 7}
    assert "2 collapsed sketches never expire" in run("doctor").stdout
    # Each is mended as its message says.
    run("collapse", "--recount", "--bucket", "more")
    assert counts(run, "--bucket", "more")["2020-01-01", "more"] == 50
    run("collapse", "--recount", status=1)
    tracker.backend.execute([("DEL", tracker.backend.keys.bucket("daily-20200102", "less").hll)])
    assert "Nothing to collapse" in run("collapse").stdout
    assert "never expire" not in run("doctor").stdout


def test_sketches_kept_for_ever_get_an_end_by_a_collapse_that_keeps_them_for_a_while(run, tracker):
    tracker.track_many(range(9), date=datetime(2020, 1, 1))
    tracker.track_many(range(9), date=datetime(2020, 1, 2))
    run("collapse", options=("--timezone", "UTC", "--keep-sketches", "forever"))
    run("doctor", "--strict", options=("--timezone", "UTC", "--keep-sketches", "forever"))
    assert "never expire" not in run("doctor").stdout  # as the data say
    assert "9,999 days" in run("settings", "--keep", "daily=9999").stdout
    assert "2 collapsed sketches never expire" in run("doctor").stdout
    run("collapse")
    assert "never expire" not in run("doctor").stdout
    assert list(counts(run).values()) == [9, 9]
