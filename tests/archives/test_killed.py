"""A process that is killed while it archives leaves the archive as it was, or as it was to become."""

import multiprocessing
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from activity_tracker_hll.archives import ArchiveFile
from helpers.killed import NEW, RECORDS, STEPS, write


@pytest.fixture(scope="module")
def context():
    """Forks processes from one that has imported all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["activity_tracker_hll.archives"])
    return context


@pytest.fixture
def path(tmp_path):
    return tmp_path / "activity.archive"


def version(path):
    """Which of the writes an archive shows: one number for all records of it, if it is whole."""
    if not path.exists():
        return None
    with ArchiveFile(path).reading() as held:
        numbers = {entry.counted for entry in held.entries.values()}
        assert len(held.entries) in {0, RECORDS}
        assert len(numbers) <= 1
        return next(iter(numbers), None)


def run(context, path, first, *, delay=0.0, step=None):
    """Run a writer and kill it after a while, or let it do that itself; the writes that it said were done."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=write, args=(path, first, theirs, step))
    process.start()
    theirs.close()
    told = [ours.recv()]
    if step is None:
        time.sleep(delay)
        process.kill()
    process.join()
    assert process.exitcode == -9
    with suppress(EOFError):
        while True:
            told.append(ours.recv())
    ours.close()
    process.close()
    return told[1:]


def killed(context, path, times, seed):
    """Kill writers at random moments; how often a journal was left."""
    dice = random.Random(seed)
    last, journals = None, 0
    for _ in range(times):
        first = 0 if last is None else last + 1
        done = run(context, path, first, delay=dice.uniform(0, 0.25))
        journals += Path(f"{path}-journal").exists()
        before = done[-1] if done else last
        last = version(path)
        assert last in {before, first + len(done)}  # what was under way may be done as well
    return journals


def test_the_old_or_the_new_state_is_there(context, path):
    killed(context, path, 5, 1)


@pytest.mark.extended
def test_it_is_killed_amid_writes(context, path):
    """A journal is left where pages of an unfinished write had reached the file: it is undone."""
    assert killed(context, path, 40, 2) > 3


@pytest.mark.parametrize("step", STEPS)
def test_between_any_two_steps(context, path, step):
    assert run(context, path, 0, step=step) == []
    assert version(path) is None
    assert path.exists() == (step != "while it is made")
    with ArchiveFile(path).writing(NEW):
        pass
    run(context, path, 5, delay=0.3)
    before = version(path)
    if step != "while it is made":
        assert run(context, path, 1000, step=step) == []
        assert version(path) == before
