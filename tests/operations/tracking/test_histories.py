"""Random histories of ids that move and return, in the made-up worlds of helpers/worlds.py.

In the end the server knows of each id by its newest event, whatever became of messages.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers.model import ModelServer
from helpers.worlds import IDS, ROUNDS, S, World, check

PARTS = 20
WORLDS = 100_000 // PARTS // len(IDS)


@pytest.mark.parametrize(
    "part",
    [
        0,
        *(pytest.param(part, marks=pytest.mark.extended) for part in (1, 2)),
        *(pytest.param(part, marks=pytest.mark.long) for part in range(3, PARTS)),
    ],
)
def test_100_000_random_histories_end_right(part):
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        world = World(seed)
        for _ in range(ROUNDS):
            world.play()
        world.refresh()
        check(world, f"World({seed})")


@pytest.mark.parametrize("seed", range(10))
def test_a_clock_of_the_server_that_is_set_back_changes_no_order(seed):
    world = World(seed)
    for number in range(ROUNDS):
        world.set_back += 30 * S * (number == 2)
        world.play()
    world.refresh()
    check(world, f"World({seed}), set back")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("limit", [0, 1, 20])
def test_with_a_full_table_counts_stay_right_but_for_returns_of_those_who_did_not_get_in(seed, limit):
    world = World(seed, limit=limit)
    for _ in range(ROUNDS):
        world.play()
    world.refresh()
    check(world, f"World({seed}, limit={limit})", limit)


LOSSES: dict[str, Callable[[ModelServer], object]] = {
    "another, empty server": lambda server: server.restart(empty=True),
    "all data": lambda server: server.lose(),
    "the sketch": lambda server: server.lose("hll"),
    "the sketch of who moved": lambda server: server.lose("moved"),
    "the table": lambda server: server.lose("moves"),
    "nothing": lambda server: server.restart(empty=False),
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("loss", LOSSES)
def test_writers_mend_what_a_server_lost(seed, loss):
    world = World(seed, trackers=0)
    for _ in range(2):
        world.play()
        world.play()
        world.refresh()
        LOSSES[loss](world.server)
        world.refresh()
    world.play()
    world.refresh()
    check(world, f"World({seed}, trackers=0)")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("loss", "writers"), [*((loss, 1) for loss in LOSSES), ("another, empty server", 2)])
def test_writers_notice_with_the_next_push_that_something_was_lost(seed, loss, writers):
    world = World(seed, writers=writers, trackers=0)
    world.play()
    world.play()
    world.refresh()
    LOSSES[loss](world.server)
    for _ in range(writers):  # what one writer tells after the other's push, the other answers with its next
        world.nudge()
    check(world, f"World({seed}, writers={writers}, trackers=0)")
