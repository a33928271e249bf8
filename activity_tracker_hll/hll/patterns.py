"""How many ids have some pattern over several sketches, such as to be in two and not in a third.

The way for any number of sketches and any question about an id that these can answer, where no likelihood
can be written down; where one can, it knows more.

Take the highest rank t of any sketch in a register. If a single id has it, the sketches that show t are those
which hold the id: whether the question is true of it can be read off. Wanted is the share of all ids of which
it is true: the probability g_1 that a register with a single id of its top rank shows such an id. But the
number of such ids in a register is a Poisson variable of mean y = 2^-t x, known not to be 0. Let g_n be the
probability that the question is true of what n *registers* of rank t show together. Under overlaying (a
convolution) the Poisson law is an exponential, so the series of the logarithm recovers the single id:

    share = 1 / y sum over n of (-1)^(n-1) / n (e^y - 1)^n g_n

for each rank with y <= ln 2; g_n is averaged over all runs of n registers. After some terms g_n is taken to
be constant, as the sum for constant g is y g. The variance is that of the runs' sums (Hajek's projection),
without the Poisson part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import expm1, hypot, isnan, log, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .estimators import CHANCE, cardinality, half_width, standard_error
from .registers import MAX_RANK, REGISTERS, Registers

__all__ = ["Bits", "Patterns", "Proportion", "ProportionLimits", "Questions", "ask", "shown_in"]

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]
"""Shape (bytes, n): of n registers a bit for each sketch, the first one in the highest bit of a byte."""

Questions = Callable[[Bits], NDArray[np.bool_] | Floats]
"""What q questions have for an answer in each of n registers, shape (q, n): true or not, or a number.

Where nothing is shown the answers are false, or 0."""

_TERMS = 8  # of the series


class Patterns(NamedTuple):
    """The answers to q questions, as means over all ids.

    Attributes:
        total: the number of all ids, and `stderr` its standard error.
        stderr: in ids.
        means: shape (q,); of what is true or not, the share of ids.
        covariance: of the means, shape (q, q).
        size: as many ids would tell as much, if each told whether something is true of it.
    """

    total: int
    stderr: float
    means: Floats
    covariance: Floats
    size: float

    def number(self, question: int) -> tuple[float, float]:
        """The number of ids of which something is true, or a sum over all ids, and its variance."""
        mean, variance = float(self.means[question]), float(self.covariance[question, question])
        return self.total * mean, (mean * self.stderr) ** 2 + self.total**2 * variance

    def of(self, question: int, whole: int | None = None) -> Proportion:
        """The share of all ids, or of those of which `whole` is true, of which `question` is true too.

        Those of which `question` is true must be part of the others.
        """
        part, of = float(self.means[question]), 1.0 if whole is None else float(self.means[whole])
        if not of > 0:
            return Proportion(nan, 0.0)
        share = min(1.0, max(0.0, part / of))
        gradient = np.zeros(len(self.means))
        gradient[question] += 1 / of
        if whole is not None:
            gradient[whole] -= share / of
        variance = float(np.einsum("i,ij,j->", gradient, self.covariance, gradient))
        size = self.size * of
        if not variance > 0:
            return Proportion(share, size)
        # A share within its error of 0 or 1 may as well be one error from there.
        error = min(0.5, sqrt(variance))
        likely = min(1 - error, max(error, share))
        return Proportion(share, min(size, likely * (1 - likely) / variance))


class Proportion(NamedTuple):
    """A share that is known as if from so many ids.

    Attributes:
        share: from 0 to 1; NaN of nobody.
        size: how many ids.
    """

    share: float
    size: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """Wilson's score interval (1927): it holds near 0 and 1.

        Where so few ids tell of something that there may be as well none, the limit is 0: what they show may
        come from two ids that share a register; likewise at 1.
        """
        if not self.size > 0 or isnan(self.share):
            return 0.0, 1.0
        z2 = half_width(confidence) ** 2 / self.size
        middle = (self.share + z2 / 2) / (1 + z2)
        half = sqrt(self.share * (1 - self.share) * z2 + z2**2 / 4) / (1 + z2)
        low = middle - half if self.share > z2 else 0.0
        high = middle + half if 1 - self.share > z2 else 1.0
        return max(0.0, low), min(1.0, high)


@dataclass(frozen=True, slots=True)
class ProportionLimits:
    """Limits of the number of ids that are a share of a count, by MOVER, see :mod:`.joint_limits`.

    Attributes:
        proportion: the share.
        total, stderr: the count, and its standard error.
    """

    proportion: Proportion
    total: int
    stderr: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """The lower and the upper limit."""
        z = half_width(confidence)
        share = self.proportion.share
        low, high = self.proportion.limits(confidence)
        error = z * share * self.stderr
        return (
            self.total * share - hypot(self.total * (share - low), error),
            self.total * share + hypot(self.total * (high - share), error),
        )


def shown_in(top: Registers, sketches: Sequence[Registers]) -> Bits:
    """In which sketches an id of the top rank shows."""
    return np.packbits(np.stack([sketch == top for sketch in sketches]), axis=0)


def ask(top: Registers, shown: Bits, questions: Questions) -> Patterns:
    """Ask something about all ids.

    Args:
        top: the registers of all sketches together, shape (16384,).
        shown: see :func:`shown_in`.
        questions: called with columns of `shown`, also with several put together by "or".
    """
    total = cardinality(top)
    order = np.argsort(top, kind="stable")
    ends = np.cumsum(np.bincount(top, minlength=MAX_RANK + 1))
    shown = shown[:, order]
    counts, weights = [], []
    means: list[Floats] = []
    variances: list[Floats] = []
    for rank in range(1, MAX_RANK + 1):
        poisson = CHANCE[rank] * total / REGISTERS
        group = slice(ends[rank - 1], ends[rank])
        count = int(ends[rank] - ends[rank - 1])
        if count == 0 or poisson > log(2):
            continue
        mean, variance = _means(shown[:, group], questions, poisson)
        counts.append(count)
        weights.append(count * (poisson / expm1(poisson)) ** 2)  # about the inverse of the variance
        means.append(mean)
        variances.append(variance)
    if not sum(weights):  # of nobody nothing is true; of registers that no ids produce nothing is known
        size = len(questions(shown[:, :1]))
        unknown = np.full(size, 0.5 if total else 0.0)
        return Patterns(total, standard_error(total), unknown, np.eye(size) * (total > 0), 0.0)
    weight, found = np.array(weights) / sum(weights), np.array(means)
    mean = (weight[:, None] * found).sum(0)
    # Within and between ranks. Where each of few ids shows, nothing is left without the Poisson part.
    beside = found - mean
    between = beside[:, :, None] * beside[:, None, :] / np.array(counts)[:, None, None]
    covariance = ((weight**2)[:, None, None] * (np.array(variances) + between)).sum(0)
    return Patterns(total, standard_error(total), mean, covariance, 1 / float((weight**2 / counts).sum()))


def _means(shown: Bits, questions: Questions, poisson: float) -> tuple[Floats, Floats]:
    """The means of the answers, from registers of one rank, and their covariance.

    Args:
        shown: the registers' bits, shape (bytes, registers).
        questions: q of them.
        poisson: the mean number of ids of that rank in a register.
    """
    count = shown.shape[1]
    terms = min(_TERMS, count)
    power = np.arange(1, terms)
    factors = (-1.0) ** (power - 1) * expm1(poisson) ** power / (power * poisson)
    factors = np.append(factors, 1 - factors.sum())
    means: Floats | float = 0.0
    influence: Floats | float = 0.0
    together = shown
    for run, factor in enumerate(factors):
        if run:
            together = together | np.roll(shown, run, axis=1)
        answers = questions(together)
        average = answers.mean(axis=1)
        means = means + factor * average
        # Register i is in the runs that end at i, i + 1, ..., i + run.
        beside = answers - average[:, None]
        sums = np.cumsum(np.concatenate([beside, beside[:, :run]], axis=1), axis=1)
        before = np.concatenate([np.zeros((len(average), 1)), sums[:, : count - 1]], axis=1)
        influence = influence + factor * (sums[:, run:] - before)
    return np.asarray(means), np.einsum("in,jn->ij", influence, influence) / count**2
