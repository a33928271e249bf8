"""Every argument of every public call is given whatever there is: only our own errors may come out.

Calls and their parameters are found by inspect, so that a new one is tried without a word here. Of all the
values that there are, runs take some, other ones each time; `-m long` takes all. Run with -s to see how many
calls were made.
"""

import asyncio
import contextlib
import inspect
import itertools
import logging
import random
import time
import traceback
import typing
from datetime import timedelta
from functools import cache
from importlib import metadata

import numpy as np
import pytest
import redis

from activity_tracker_hll import (
    ActivityTracker,
    ActivityTrackerError,
    Archive,
    Estimate,
    HyperLogLog,
    Selection,
)
from activity_tracker_hll.aio import AsyncActivityTracker
from activity_tracker_hll.backends.async_redis import AsyncRedisBackend
from activity_tracker_hll.backends.options import RedisOptions
from activity_tracker_hll.backends.redis import RedisBackend
from activity_tracker_hll.metrics import CountsCollector, WriterCollector
from activity_tracker_hll.periods import PERIODS, Calendar
from activity_tracker_hll.web import Recorder, asgi, wsgi
from helpers.moments import NOON, TODAY
from helpers.nasty import CANARY, NASTY, RaisedError, hostile

ENOUGH_S = 5.0
"""Seconds of this thread, on a machine that is busy with other things."""
ITERATED = ("ids", "events")
"""Arguments of which iterators may raise what they like: it comes out as it is, as their calls say."""
NOT_FOR_CALLERS = ("close_within", "flush_within", "limit", "after_fork", "locks")
QUESTIONS = ("unique", "rolling", "stickiness", "overlap", "retention", "lifecycle", "sketch")
TOMORROW = TODAY + timedelta(days=1)
SELECTION = Selection(None, TODAY, TOMORROW, "daily")
GOOD = {"ids": ["a"], "id": "a", "moved": HyperLogLog(), "data": b"", "identify": print, "app": print}
GOOD |= {"start": TODAY, "end": TOMORROW, "window": 2, "period": "daily", "date": TODAY}
GOOD |= {"a": SELECTION, "b": SELECTION, "other": HyperLogLog(), "path": "an.archive"}
"""What is given for required arguments, and for `id`, while others are tried."""
FORMS = {"value": lambda value: value, "list": lambda value: [value], "dict": lambda value: {"t": value}}
CONNECTION = [*typing.get_type_hints(RedisOptions), "encoding", "decode_responses", "retry", "retry_on_error"]


class Fuzz:
    """Makes calls, and notes what should not have come out.

    Args:
        part: one in so many of all values is tried.

    Attributes:
        values: what is tried, and the place of each in the list of all.
    """

    def __init__(self, part=1):
        chosen = random.SystemRandom().sample(range(len(NASTY)), len(NASTY) // part)
        self.values = [(number, NASTY[number]) for number in sorted(chosen)]
        self.calls = self.refused = 0
        self.slowest = (0.0, "")
        self.foreign, self.unfit = {}, []

    def call(self, where, function, arguments=(), options=None, *, iterated=False):
        self.calls += 1
        began = time.thread_time()
        try:
            function(*arguments, **(options or {}))
        except ActivityTrackerError as error:
            self.refused += 1
            self._judge(where, error)
        except RaisedError as error:
            if not iterated:
                self._note(where, error)
        except Exception as error:
            self._note(where, error)
        self.slowest = max(self.slowest, (time.thread_time() - began, where))

    def _judge(self, where, error):
        """Whether a message is fit to be shown, and shows no secret."""
        lines = [str(error), repr(error), *traceback.format_exception_only(error)]
        shown = "".join(lines).replace("\n", "")
        if CANARY[:4] in shown or not shown.isprintable() or len(str(error)) > 1000:
            self.unfit.append(f"{where}: {error!a:.300}")

    def _note(self, where, error):
        frames = traceback.extract_tb(error.__traceback__)
        [*_, last] = [frame for frame in frames if "activity_tracker_hll/" in frame.filename] or frames
        kind = f"{type(error).__name__} at {last.filename.rpartition('/')[2]}:{last.lineno}"
        self.foreign.setdefault(kind, []).append(where)

    def each(self, name, call, parameters, forms=FORMS):
        """Give each value for each parameter, alone and in containers, while others are good."""
        single = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        needed = [each.name for each in single if each.default is each.empty or each.name == "id"]
        good = {name: GOOD.get(name) for name in needed}
        for parameter, (number, make), form in itertools.product(parameters, self.values, forms):
            value = forms[form](make())
            where = f"{name}({parameter.name}={form} of {number})"
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.call(where, call, (value,))
            elif parameter.kind is not parameter.VAR_KEYWORD:
                options = {**good, parameter.name: value}
                self.call(where, call, (), options, iterated=parameter.name in ITERATED)

    def check(self, at_least):
        """Judge what came out of so many calls, if all values were tried."""
        foreign = sum(map(len, self.foreign.values()))
        found = f"{self.calls} calls, {self.refused} refused, {foreign} foreign exceptions,"
        print(f"\n{found} {len(self.unfit)} secrets shown or unfit, slowest {self.slowest[0]:.2f} s")
        for kind, names in self.foreign.items():
            print(f"{len(names)} times {kind}, first {names[0]}")
        print(*self.unfit[:20], sep="\n")
        assert not self.foreign
        assert not self.unfit
        assert self.slowest < (ENOUGH_S, "")
        assert self.calls >= at_least * len(self.values) // len(NASTY)


def calls_of(cls):
    """The public methods of a class, with their parameters but `self`, and the forms of values to try."""
    for name, method in inspect.getmembers(cls, callable):
        inherited = cls is Estimate and name not in vars(cls)
        if not name.startswith("_") and not inherited and name not in NOT_FOR_CALLERS:
            bound = isinstance(inspect.getattr_static(cls, name), classmethod)
            parameters = [*inspect.signature(method).parameters.values()][0 if bound else 1 :]
            shorthand = name.endswith(PERIODS)
            yield name, parameters, {"value": FORMS["value"]} if shorthand else FORMS


def options_of(cls):
    """The parameters of a constructor."""
    return [*inspect.signature(cls).parameters.values()]


@pytest.fixture(params=[4, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
def fuzz(caplog, request, monkeypatch):
    monkeypatch.setattr(metadata, "version", cache(metadata.version))  # a file that each client reads
    caplog.set_level(logging.CRITICAL + 1, "activity_tracker_hll")
    return Fuzz(request.param)


@pytest.fixture
def options(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where archives are written
    socket = str(started("valkey").socket)
    with redis.Redis(unix_socket_path=socket) as client:
        client.flushall()  # where something is due, `progress` is called, and its errors are its own
    return {"unix_socket_path": socket, "clock": lambda: NOON, "timezone": "UTC"}


@pytest.mark.extended
def test_calls(fuzz, options):
    with ActivityTracker(["daily"], **options) as tracker:

        def closing(call):
            def closing(*args, **kwargs):
                made = call(*args, **kwargs)
                if hasattr(made, "close_within"):  # a writer
                    made.close_within(0.1)

            return closing

        for name, parameters, forms in calls_of(ActivityTracker):
            if name not in {*QUESTIONS, "report"}:
                fuzz.each(name, closing(getattr(tracker, name)), parameters, forms)
    fuzz.check(5000)


@pytest.mark.extended
def test_questions(fuzz, options):
    """What sketches are asked; tests/reading/test_arguments.py has a part of it."""
    with ActivityTracker(["daily"], **options) as tracker:
        tracker.track(id="a")
        for name, parameters, _ in calls_of(ActivityTracker):
            if name in QUESTIONS:
                fuzz.each(name, getattr(tracker, name), parameters, {"value": FORMS["value"]})
    fuzz.check(2000)


@pytest.mark.extended
def test_reports(fuzz, options, tmp_path, monkeypatch):
    """In a folder of their own, as they are written wherever they are told to."""
    pytest.importorskip("jinja2")
    monkeypatch.chdir(tmp_path)
    with ActivityTracker(["daily"], buckets=["a"], **options) as tracker:
        parameters = inspect.signature(tracker.report).parameters.values()
        # What `progress` raises when it is called is its own, and it always is.
        parameters = [each for each in parameters if each.name != "progress"]
        fuzz.each("report", tracker.report, parameters, {"value": FORMS["value"]})
    fuzz.check(500)


@pytest.mark.long
def test_calls_awaited(fuzz, options):
    with asyncio.Runner() as runner:
        tracker = AsyncActivityTracker(["daily"], **options)

        def waiting(call):
            async def awaited(*args, **kwargs):
                made = call(*args, **kwargs)
                if inspect.isawaitable(made):
                    await made
                else:
                    made.close_within(0.1)

            return lambda *args, **kwargs: runner.run(awaited(*args, **kwargs))

        for name, parameters, forms in calls_of(AsyncActivityTracker):
            if name not in {*QUESTIONS, "report"}:  # planned by what plans the others
                fuzz.each(name, waiting(getattr(tracker, name)), parameters, forms)
        runner.run(tracker.close())
    fuzz.check(5000)


def test_writers(fuzz, options):
    with ActivityTracker(["daily"], **options) as tracker:
        writer = tracker.buffered(flush_interval=0.05)
        for name, parameters, forms in calls_of(type(writer)):
            if name == "close":
                fuzz.each(name, lambda timeout: tracker.buffered().close(timeout), parameters)
            else:
                fuzz.each(name, getattr(writer, name), parameters, forms)
        assert writer.close(60).pending == 0
    fuzz.check(3000)


def test_writers_awaited(fuzz, options):
    async def all_calls():
        tracker = AsyncActivityTracker(["daily"], **options)
        writer = tracker.buffered(flush_interval=0.05)
        for name, parameters, forms in calls_of(type(writer)):
            if not inspect.iscoroutinefunction(getattr(writer, name)):
                fuzz.each(name, getattr(writer, name), parameters, forms)
        for _, make in fuzz.values:
            with contextlib.suppress(ActivityTrackerError):
                await writer.flush(make())
        assert (await writer.close(60)).pending == 0
        await tracker.close()

    asyncio.run(all_calls())
    fuzz.check(3000)


@pytest.mark.parametrize("count", [0, pytest.param(300, marks=pytest.mark.extended)])
def test_events(fuzz, options, count):
    """Each part of an event, after none and after enough to be columns; and each column."""
    good = ("a", None, TODAY)
    before = [good] * count
    ids = np.array(["a"] * max(count, 1))
    with ActivityTracker(["daily", "hourly"], **options) as tracker:
        for (number, make), place in itertools.product(fuzz.values, range(3)):
            where = f"import_events(part {place} is {number})"
            row = (*good[:place], make(), *good[place + 1 :])
            fuzz.call(where, tracker.import_events, ([*before, row], ["daily"]))
            for column in (make(), [make()] * len(ids)):
                columns = [ids, None, TODAY]
                columns[place] = column
                events = (tuple(columns), ["daily"])
                fuzz.call(f"column: {where}", tracker.import_events, events, iterated=True)
        for (number, make), kind in itertools.product(fuzz.values, (hostile(tuple), hostile(list), list)):
            where = f"import_events(a {kind.__name__} of {number})"
            fuzz.call(where, tracker.import_events, ([*before, kind([make()] * 3)], ["daily"]))
    fuzz.check(1000)


def test_many_ids(fuzz, options):
    """A bad one among so many that they are hashed together."""
    with ActivityTracker(["daily"], **options) as tracker, tracker.buffered() as writer:
        for (number, make), like in itertools.product(fuzz.values, ("a", b"a", 1)):
            for call in (tracker.track_many, writer.track_many, HyperLogLog):
                fuzz.call(f"{call.__qualname__}(many and {number})", call, ([like] * 300 + [make()],))
    fuzz.check(1000)


@pytest.mark.parametrize("make", [HyperLogLog, lambda: Estimate(5)], ids=["HyperLogLog", "Estimate"])
def test_values(fuzz, make):
    own = make()
    fuzz.each(type(own).__name__, type(own), options_of(type(own)))
    for name, parameters, forms in calls_of(type(own)):
        fuzz.each(name, getattr(own, name), parameters, forms)
    fuzz.check(1000)


def test_calendars(fuzz):
    """Its other calls are given what it made."""

    def used(**options):
        calendar = Calendar(**options)
        calendar.local(NOON), calendar.zone_fingerprint, calendar.zone_name.encode()

    fuzz.each("Calendar", used, options_of(Calendar))
    for zone in (None, "UTC", "Europe/Berlin"):
        for number, make in fuzz.values:
            fuzz.call(f"moment of {number} in {zone}", Calendar(zone).moment, (make(), "date"))
    fuzz.check(1000)


@pytest.mark.parametrize(
    "cls", [ActivityTracker, pytest.param(AsyncActivityTracker, marks=pytest.mark.extended)]
)
def test_trackers(fuzz, cls, options):
    where = {"unix_socket_path": options["unix_socket_path"], "namespace": cls.__name__}

    with asyncio.Runner() as runner:

        def made(**given):
            tracker = cls(**{"periods": ["daily"], **where, "secret": CANARY, **given})
            assert CANARY not in repr(tracker)
            try:
                for call in (
                    lambda: tracker.track(id="a"),
                    tracker.collapse,
                    lambda: tracker.lookup("daily"),
                ):
                    wait(call())
            finally:
                wait(tracker.close())

        def wait(done):
            if inspect.iscoroutine(done):
                runner.run(done)

        fuzz.each(cls.__name__, made, options_of(cls))
    fuzz.check(2000)


@pytest.mark.extended
def test_archives(fuzz, options):
    with ActivityTracker(["daily"], **options) as tracker:
        tracker.track(id="a")
        tracker.archive("an.archive")

    def made(**given):
        archive = Archive(**{"path": "an.archive", **given})
        assert CANARY not in repr(archive)
        archive.lookup("daily")

    fuzz.each("Archive", made, options_of(Archive))
    for name, parameters, _ in calls_of(Archive):
        if name not in {*QUESTIONS, "report"}:  # planned by what plans those of trackers
            fuzz.each(name, getattr(Archive("an.archive"), name), parameters, {"value": FORMS["value"]})
    fuzz.check(1000)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets of redis-py before 8
@pytest.mark.extended
@pytest.mark.parametrize("cls", [RedisBackend, AsyncRedisBackend])
def test_backends(fuzz, cls):
    """A port on which nobody listens: what only shows when it connects shows, too."""
    own = [each for each in options_of(RedisBackend.__mro__[1]) if each.kind is not each.VAR_KEYWORD]
    names = {each.name for each in own}
    own += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in CONNECTION if name not in names
    ]
    assert {"secret", "keep_sketches", "shards", "url", "port", "ssl", "encoding"} <= {
        each.name for each in own
    }
    secret = {"username": f"u{CANARY}", "password": CANARY, "retries": 0}
    with asyncio.Runner() as runner:

        def used(option, value, *, shards):
            is_place = option in {"url", "client", "unix_socket_path"} and value is not None
            where = {} if is_place else {"port": 1}
            given = {**({} if option == "client" else secret), **where, option: value}
            backend = cls(shards=[{"port": 1}, given], namespace="x") if shards else cls(**given)
            assert CANARY not in repr(backend)
            if option not in {"url", "host", "client"}:  # what is fit for a name is looked up in the net
                done = backend.execute([("PING",)], int(shards))
                runner.run(done) if inspect.iscoroutine(done) else None

        for each, (number, make) in itertools.product(own, fuzz.values):
            shards = bool(number % 2) and each.name != "shards"
            where = f"{cls.__name__}({each.name} is {number}, {shards=})"
            fuzz.call(where, used, (each.name, make()), {"shards": shards})
    fuzz.check(5000)


def test_shards(fuzz):
    backend = RedisBackend(port=1, retries=0)
    for number, make in fuzz.values:
        fuzz.call(f"check_shard({number})", backend.check_shard, (make(),))
        fuzz.call(f"client({number})", backend.client, (make(),))
        fuzz.call(f"execute(shard={number})", backend.execute, ([("PING",)], make()))
    fuzz.check(400)


def test_adapters_and_metrics(fuzz, options):
    with ActivityTracker(["daily"], **options) as tracker, tracker.buffered() as writer:
        for cls in (Recorder, asgi.FlushOnShutdown, asgi.ActivityMiddleware, wsgi.ActivityMiddleware):
            parameters = [each for each in options_of(cls) if each.name != "writer"]
            fuzz.each(cls.__qualname__, lambda cls=cls, **given: cls(writer=writer, **given), parameters)
            fuzz.each(cls.__qualname__, cls, options_of(cls))
        fuzz.each("WriterCollector", WriterCollector, options_of(WriterCollector))
        fuzz.each("CountsCollector", CountsCollector, options_of(CountsCollector))
        of_counts = [each for each in options_of(CountsCollector) if each.name != "tracker"]
        fuzz.each("CountsCollector", lambda **given: CountsCollector(tracker, **given), of_counts)
        for (number, make), place in itertools.product(fuzz.values, range(-1, 4)):
            found = make() if place < 0 else (*("a", "b", "c", "d")[:place], make())
            recorder = Recorder(writer, lambda _request, found=found: found)
            fuzz.call(f"identify returns {number} as {place}", recorder.record, (None,))
    fuzz.check(1500)


def test_a_new_parameter_is_tried(fuzz):
    class New(ActivityTracker):
        def count(self, *, whatever):
            return whatever.year

    [found] = [found for name, *found in calls_of(New) if name == "count"]
    fuzz.each("count", New(["daily"]).count, *found)
    assert "AttributeError" in str(fuzz.foreign)


@pytest.mark.extended
def test_selections(fuzz, options):
    """What an overlap is asked of."""
    with ActivityTracker(["daily"], **options) as tracker:
        tracker.track_many(["a", "b"])
        good = {"buckets": None, "start": TODAY, "end": TOMORROW, "period": "daily"}
        for name in good:
            for number, make in fuzz.values:
                for form, is_first in (("value", True), ("list", False), ("dict", True)):
                    selection = Selection(**good | {name: FORMS[form](make())})
                    where = f"overlap(Selection({name}={form} of {number}))"
                    both = (selection, SELECTION) if is_first else (SELECTION, selection)
                    fuzz.call(where, tracker.overlap, both)
    fuzz.check(1000)
