"""Two sets beyond a third: estimates and intervals against simulated sketches, and against real ids."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activity_tracker_hll.bulk import all_hashes
from activity_tracker_hll.hll.joint import FLOOR, Likelihood, fit, influence, inverse, joined, observe
from activity_tracker_hll.hll.joint_limits import PairLimits, limits_of, set_limits
from activity_tracker_hll.hll.registers import empty, fold
from activity_tracker_hll.ids import IdEncoder
from helpers.registers import dice, drawn, sketches

WHAT = ("both", "only_a", "only_b", "share_of_a", "share_of_b", "jaccard")
SIZES = st.integers(0, 3000)
LEVELS = {0.8: (0.78, 0.87), 0.95: (0.93, 0.99), 0.99: (0.98, 1.0)}


def pair(rng, only_a, only_b, both, base=0):
    """Sketches of two sets, and of a third, disjoint one that both contain."""
    common, third = drawn(rng, both), drawn(rng, base)
    a, b = (np.maximum.reduce([drawn(rng, only), common, third]) for only in (only_a, only_b))
    return a, b, third if base else None


def truths(only_a, only_b, both):
    wholes = (only_a + both, only_b + both, only_a + only_b + both)
    return dict(zip(WHAT, (both, only_a, only_b, *(both / whole for whole in wholes)), strict=True))


def of_jaccard(ids, jaccard):
    both = round(2 * ids * jaccard / (1 + jaccard))
    return ids - both, ids - both, both


EQUAL = {  # Jaccard index: root mean square errors in ids of 1e4, 1e5, 1e6 in a feasibility study
    0: (22, 210, 2054),
    0.001: (26, 262, 2622),
    0.01: (40, 407, 4107),
    0.05: (48, 500, 5219),
    0.1: (49, 555, 5712),
    0.3: (47, 571, 6329),
    0.5: (46, 609, 6526),
    0.9: (55, 707, 7748),
    1: (58, 701, 8139),
}
CELLS = {
    f"{ids:.0e}-{jaccard}": (of_jaccard(ids, jaccard), rms)
    for jaccard, row in EQUAL.items()
    for ids, rms in zip((10_000, 100_000, 1_000_000), row, strict=True)
} | {
    "1e3-in-1e6-.1": ((900, 999_900, 100), 128),
    "1e3-in-1e6-.5": ((500, 999_500, 500), 169),
    "1e5-in-1e7-.1": ((90_000, 9_990_000, 10_000), 4681),
    "1e5-in-1e7-.5": ((50_000, 9_950_000, 50_000), 5242),
}
FEW = ("1e+04-0", "1e+04-0.1", "1e+05-0.01", "1e+05-1", "1e+06-0.5", "1e3-in-1e6-.5")


def check_cell(name, trials):
    """The error is at most a tenth above the study's, and intervals hold what they promise.

    Bounds are 3.5 standard errors of the simulation wide. Where nothing or all is common, limits are
    whole ids or 0 or 1, and hold more.
    """
    sizes, rms = CELLS[name]
    truth = truths(*sizes)
    rng = np.random.default_rng([trials, *sizes])
    joint = fit(observe(pair(rng, *sizes) for _ in range(trials)))
    errors = joint.ids[:, 2] - truth["both"]
    found = sqrt(np.mean(errors**2))
    print(f"\n{name:14} rms {found:7.0f} ({rms}), bias {errors.mean():6.1f}", end="")
    assert found < 1.1 * rms * (1 + 3.5 / sqrt(2 * trials))
    if min(sizes) > 3 * rms:  # nearer to 0 numbers are too large in the mean, as none is negative
        assert abs(errors.mean()) < 0.1 * found + 3.5 * found / sqrt(trials)
    for confidence, (least, most) in LEVELS.items():
        for what, (low, high) in limits_of(joint, WHAT, confidence).items():
            share = np.mean((low <= truth[what]) & (truth[what] <= high))
            print(f", {what} {share:.1%}", end="")
            assert share > least - 3.5 * sqrt(least * (1 - least) / trials), (what, confidence)
            if 0 not in sizes:
                assert share < most + 3.5 * sqrt(most * (1 - most) / trials), (what, confidence)


@pytest.mark.parametrize(
    "name", [*FEW[:3], *(pytest.param(name, marks=pytest.mark.extended) for name in FEW[3:])]
)
def test_errors_and_intervals(name):
    check_cell(name, 150)


@pytest.mark.long
@pytest.mark.parametrize("name", CELLS)
def test_errors_and_intervals_of_all_sizes(name):
    check_cell(name, 4000)


@pytest.mark.parametrize("trials", [100, pytest.param(2000, marks=pytest.mark.long)])
def test_sketches_of_ids_that_were_hashed(trials):
    """They behave as simulated ones do: the error is that of 1e4 and 1e5 ids, in between."""
    rng = np.random.default_rng(7)
    sizes = of_jaccard(20_000, 0.2)
    only_a, only_b, both = (np.cumsum([0, *sizes])[part : part + 2] for part in range(3))

    def sketched(*ranges):
        registers = empty()
        fold(registers, np.concatenate([hashes[first:end] for first, end in ranges]))
        return registers

    pairs = []
    for _ in range(trials):
        hashes = all_hashes(IdEncoder(), rng.integers(0, 2**62, sum(sizes)))
        pairs.append((sketched(only_a, both), sketched(only_b, both), None))
    joint = fit(observe(pairs))
    errors = joint.ids[:, 2] - sizes[2]
    assert sqrt(np.mean(errors**2)) < 0.005 * 24_000 * (1 + 3.5 / sqrt(2 * trials))
    for what, (low, high) in limits_of(joint, WHAT).items():
        truth = truths(*sizes)[what]
        assert np.mean((low <= truth) & (truth <= high)) > 0.93 - 3.5 * sqrt(0.07 * 0.93 / trials)


@pytest.mark.parametrize(
    ("sizes", "base"),
    [((60_000, 60_000, 40_000), 1_000_000), ((2_000, 98_000, 3_000), 50_000), ((500, 0, 200), 1000)],
)
def test_beyond_a_base(sizes, base):
    trials, truth = 150, truths(*sizes)
    rng = np.random.default_rng([base, *sizes])
    joint = fit(observe(pair(rng, *sizes, base) for _ in range(trials)))
    for what, (low, high) in limits_of(joint, WHAT).items():
        inside = np.mean((low <= truth[what]) & (truth[what] <= high))
        assert inside > 0.93 - 3.5 * sqrt(0.07 * 0.93 / trials), what


@pytest.mark.parametrize("sizes", [(10, 5, 5), (0, 0, 20), (20, 20, 0), (3, 0, 1)])
def test_small_sets_are_nearly_exact(sizes):
    """Two of twenty ids share a register with a chance of one in a hundred."""
    trials = 200
    rng = np.random.default_rng(sizes)
    joint = fit(observe(pair(rng, *sizes) for _ in range(trials)))
    right = np.mean((np.round(joint.ids) == sizes).all(1))
    assert right > 0.95


@given(dice, SIZES, SIZES, SIZES, SIZES)
@settings(max_examples=20)
def test_a_and_b_are_alike(rng, only_a, only_b, both, base):
    a, b, third = pair(rng, only_a, only_b, both, base)
    joint = fit(observe([(a, b, third), (b, a, third)]))
    ids = joint.ids
    assert ids[0] == pytest.approx(ids[1][[1, 0, 2]], rel=1e-3, abs=0.05)


@given(dice, SIZES, SIZES, SIZES)
@settings(max_examples=8)
def test_pairs_at_once_are_as_each_alone(rng, only_a, only_b, both):
    pairs = [pair(rng, only_a, only_b, both), pair(rng, both, 0, only_a), pair(rng, only_b, both, 0, 50)]
    together = fit(observe(pairs))
    limits = limits_of(together, WHAT)
    for index, one in enumerate(pairs):
        alone = fit(observe([one]))
        assert together.ids[index] == pytest.approx(alone.ids[0], rel=1e-3, abs=0.05)
        for what, (low, high) in limits_of(alone, WHAT).items():
            expected = limits[what].low[index], limits[what].high[index]
            assert (low[0], high[0]) == pytest.approx(expected, rel=0.02, abs=1.01)


@given(sketches, sketches, st.none() | sketches, st.sampled_from((0.5, 0.95, 0.999)))
@settings(max_examples=20)
def test_any_registers_give_numbers_within_their_limits(a, b, base, confidence):
    """Also such as no ids make; numpy's warnings are errors here."""
    joint = fit(observe([(a, b, base)]))
    assert np.isfinite(joint.ids).all()
    assert (joint.ids >= 0).all()
    for what, (low, high) in limits_of(joint, WHAT, confidence).items():
        assert 0 <= low[0] <= high[0], what
        assert what in {"both", "only_a", "only_b"} or high[0] <= 1, what


@given(dice, SIZES, SIZES, SIZES)
@settings(max_examples=8)
def test_more_confidence_has_wider_limits(rng, only_a, only_b, both):
    joint = fit(observe([pair(rng, only_a, only_b, both)]))
    for narrow, wide in ((0.5, 0.8), (0.8, 0.95), (0.95, 0.999)):
        inner, outer = limits_of(joint, WHAT, narrow), limits_of(joint, WHAT, wide)
        for what in WHAT:
            slack = 1e-2 * (outer[what].high - outer[what].low)
            assert outer[what].low <= inner[what].low + slack
            assert inner[what].high <= outer[what].high + slack


@given(dice, SIZES, SIZES, SIZES)
@settings(max_examples=8)
def test_limits_of_one_number_are_found_again(rng, only_a, only_b, both):
    joint = fit(observe([pair(rng, only_a, only_b, both)]))
    for what, (low, high) in limits_of(joint, WHAT, 0.9).items():
        one = PairLimits(joint.likelihood.observed, (what,), (-1.0, -2.0))
        assert one.limits(0.95) == (-1.0, -2.0)
        assert one.limits(0.9) == (low[0], high[0])


def test_what_is_common_is_known_best_as_a_share_of_the_smaller_set():
    rng = np.random.default_rng(1)
    joint = fit(observe(pair(rng, 900, 99_900, 100) for _ in range(20)))
    of_a, of_b = (set_limits(joint, of, 1.96).both for of in ("a", "b"))
    assert np.median(of_a.high - of_a.low) < np.median(of_b.high - of_b.low)
    assert (limits_of(joint, ("both",))["both"].low == of_a.low).all()


@given(dice, SIZES, SIZES, SIZES, SIZES)
@settings(max_examples=20)
def test_derivatives_are_those_of_the_likelihood(rng, only_a, only_b, both, base):
    likelihood = Likelihood(observe([pair(rng, only_a + 1, only_b, both, base)]))
    rates, rows = np.exp(rng.uniform(-6, 1, (1, 3))), np.arange(1)
    _, gradient, information = likelihood.at(rates, rows)
    for index in range(3):
        step = np.zeros((1, 3))
        step[0, index] = 1e-5 * rates[0, index]
        (above, slope_above, _), (below, slope_below, _) = (
            likelihood.at(rates + sign * step, rows) for sign in (1, -1)
        )
        width = 2 * step[0, index]
        scale = np.abs(likelihood.above).sum() + np.abs(gradient).sum()
        assert gradient[0, index] == pytest.approx((above - below)[0] / width, rel=1e-3, abs=1e-3 * scale)
        curve = (slope_below - slope_above)[0] / width
        assert information[0, index] == pytest.approx(curve, rel=1e-2, abs=1e-3 * np.abs(information).max())


def test_the_fit_is_a_maximum():
    rng = np.random.default_rng(3)
    joint = fit(observe(pair(rng, 500, 800, 300, base) for base in (0, 100, 5000)))
    rows = np.arange(3)
    for factors in rng.uniform(0.9, 1.1, (50, 3)):
        value, _, _ = joint.likelihood.at(np.maximum(joint.rates * factors, FLOOR), rows)
        assert (value <= joint.value + 1e-6).all()


def test_nothing_is_known_of_what_a_full_base_hides():
    full = np.full(16384, 51, np.uint8)
    some = drawn(np.random.default_rng(2), 1000)
    limits = limits_of(fit(observe([(some, some, full)])), WHAT)
    assert limits["both"].high[0] > 1e9
    assert (limits["jaccard"].low[0], limits["jaccard"].high[0]) == (0, 1)


def test_empty_sets_share_nobody_and_anybody():
    joint = fit(observe([(empty(), empty(), None)]))
    assert joint.ids.tolist() == [[0, 0, 0]]
    for what, (low, high) in limits_of(joint, WHAT).items():
        assert low[0] == 0
        assert high[0] == 1 if "share" in what or what == "jaccard" else high[0] < 5


def test_influences_of_registers_add_up_to_errors():
    """To nothing, as the likelihood is at its top; and their products to the covariances it has there."""
    rng = np.random.default_rng(3)
    one = pair(rng, 30_000, 20_000, 10_000, 50_000)
    joint = fit(observe([one]))
    found = np.stack([influence(one, number, joint.rates[0], joint.information[0]) for number in range(3)])
    assert found.sum(1) == pytest.approx([0, 0, 0], abs=1)
    expected = inverse(joint.information)[0] * found.shape[1] ** 2
    # Observed curvature and products of scores differ by their own errors, some percent.
    spread = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert np.abs(found @ found.T - expected).max() < 0.05 * spread.max()
    empty_pair = (one[0], np.zeros_like(one[0]), None)
    alone = fit(observe([empty_pair]))
    assert not influence(empty_pair, 2, alone.rates[0], alone.information[0]).any()


def test_pairs_are_joined_and_taken():
    rng = np.random.default_rng(4)
    pairs = [pair(rng, 100 * n, 50, 10) for n in range(1, 4)]
    together = observe(pairs)
    again = joined([observe([each]) for each in pairs])
    for some, other in zip(together, again, strict=True):
        assert np.array_equal(some, other)
    for some, other in zip(together.take([2]), observe(pairs[2:]), strict=True):
        assert np.array_equal(some, other)
