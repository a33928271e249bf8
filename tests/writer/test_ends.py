"""Writers in processes that end and are ended: nothing is lost that can be kept, and nothing hangs."""

import signal
import time

import pytest

from helpers.faults import Node
from helpers.servers import program
from helpers.services import finished, held, registers, run, service


def test_the_end_of_the_interpreter_pushes_what_is_left(real_server):
    run(
        """
        writer = unhurried_writer()
        for n in range(5000):
            writer.track(id=f"i{n}")
        """,
        real_server,
    )
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


@pytest.mark.parametrize("how", ["raise SystemExit(0)", "signal.raise_signal(signal.SIGTERM)"])
def test_sigterm_that_ends_the_interpreter_loses_nothing(real_server, how):
    run(
        f"""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        writer = unhurried_writer()
        for n in range(5000):
            writer.track(id=f"i{{n}}")
        {how}
        """,
        real_server,
    )
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


def test_sigterm_while_a_writer_is_closed_loses_nothing(real_server):
    """The server hangs; it is back before the end of the interpreter has waited for it in vain."""
    run(
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        writer = unhurried_writer()
        for n in range(5000):
            writer.track(id=f"i{n}")
        flush_within = writer.flush_within

        def interrupted(limit):
            writer.flush_within = flush_within
            signal.raise_signal(signal.SIGTERM)

        writer.flush_within = interrupted
        writer.close()
        """,
        real_server,
    )
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_an_end_that_runs_nothing_keeps_what_was_pushed(real_server, end):
    process = service(
        f"""
        writer = tracker.buffered(flush_interval=0.02)
        for n in range(5000):
            writer.track(id=f"i{{n}}")
        wait_until_pushed(5000)
        {end}
        """,
        real_server.options["unix_socket_path"],
    )
    finished(process, 7 if "exit" in end else -signal.SIGKILL)
    assert held(real_server.client) == registers(f"i{n}" for n in range(5000))


@pytest.mark.parametrize("way", ["exit", "close"])
def test_an_end_while_the_server_hangs(started, tmp_path, way):
    """It takes as long as it was told, and says how much is lost."""
    started("valkey")  # or skipped
    node = Node(program("valkey"), tmp_path)
    node.start()
    try:
        process = service(
            """
            tracker = ActivityTracker(["daily"], port=int(SOCKET), timezone="UTC")
            writer = tracker.buffered(flush_interval=0.02, close_timeout=1.5)
            for n in range(100):
                writer.track(id=f"i{n}")
            wait_until_pushed(100)
            print("ready", flush=True)
            sys.stdin.readline()
            for n in range(77):
                writer.track(id=f"late{n}")
            if sys.argv[2] == "close":
                statistics = writer.close()
                assert statistics.pending == 77
                assert statistics.last_error is not None
            """,
            node.port,
            way,
        )
        assert process.stdout.readline() == "ready\n"
        node.pause()
        start = time.monotonic()
        process.stdin.write("go\n")
        process.stdin.flush()
        _, problems = finished(process)
        assert time.monotonic() - start < 30
        assert "77 events were not pushed in time and are lost" in problems
    finally:
        node.resume()
        node.close()
