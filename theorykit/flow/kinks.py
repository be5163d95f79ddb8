r"""Kinks: where the right-hand side of a net with activations like ReLU jumps, and how the flow goes on from there.

Every preactivation g_j of a sample and a unit is a kink, and the slopes s_j of the activations say on which piece the
flow is: s_j is 1 where g_j > 0 and the activation's other slope, 0 for ReLU, where g_j < 0. On one piece, held during
every step whatever the signs do, everything is smooth. A step in which a g_j has changed its side ends there, and the
flow goes on as a solution of the differential inclusion of Clarke's subgradients, by Filippov's rule:

- it crosses where on the other side it is driven away from the kink;
- else it slides along it: s_j takes the value between the two slopes with which g_j stays 0. Both for
  dtheta/dtau = -theta + force and in the kernel frame that is grad g_j . force = 0, since g_j is homogeneous.

The slopes at several kinks at once are found by iteration at every evaluation. Sliding ends where a slope leaves its
interval. Kinks whose normals depend on those of held ones (two samples that see one active unit) rest on them. A unit
that is off for every sample only shrinks, and grazes the kink that it came to: what is left of g there is round-off and
the errors of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, groupby, islice, product
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.roots import root_between
from theorykit.models import Kinked

if TYPE_CHECKING:
    from theorykit.flow.frames import Field, Given

Floats = NDArray[np.float64]

_LOOKS = (0.25, 0.5, 0.75, 1.0)  # parts of a step at which the sides are looked at
_ITERATIONS = 25  # for slopes
_FARTHEST = 1e6  # that slopes go on the way
_STEP = 1e-3  # of central differences in a slope, whose error is of third order
_SOLVED = 1e-14  # part of the terms between a normal and the force that is left of their sum
_ROUND_OFF = 1e-11  # the same that may be left where it no longer falls
_MOST_ROUND_OFF = 1e-7  # of it, where a residual is nearly 0
_STUCK = 1e-15  # move of the slopes, relative to them, that leads nowhere
_NOISE = 1e-14  # of a preactivation relative to the terms of its sum
_UNIT = 2.0**-52
_LEAST_SLOPE = 1e-9  # part of a natural slope that is not told from 0
_GRAZING = 1e-12  # part of the largest preactivation up to which the flow grazes a kink that it moves along
TIE = 1e-11  # the same below which the flow is taken to be along the kink
_INDEPENDENT = 1e-2  # part of the largest, of gradients of outputs and their singular values, along which x is moved
_DEPENDENT = 1e-9  # part of a normal outside the span of others below which it lies in it
_TRIES = 2000
_AGREE = 1e-6  # difference of two forces, relative to them, up to which they are the same

At = Callable[[float], "tuple[Field, float, Floats]"]
"""The path of a step: from the clock to the field, log tau and the state."""


class Meeting(NamedTuple):
    """A kink that the flow reaches: when on the clock, and which one."""

    clock: float
    kink: int


def sides(field: Field, log_tau: float, x: Floats) -> Floats:
    """Return the slopes on the piece that x is on, (K,); none for smooth models and those that know of no kinks."""
    model = field.problem.model
    if not isinstance(model, Kinked):
        return np.zeros(0)
    g = distances(field, log_tau, x).g
    return np.asarray(model.slopes(g)) if g.size else np.zeros(0)


class Distances(NamedTuple):
    """How far the flow is from every kink, (K,), in units in which the gradient of g in x is that of the model.

    Attributes
    ----------
    g : ndarray, shape (K,)
    noise : ndarray, shape (K,)
        Round-off of g; -1 for units so small that nobody knows, and nobody sees, on which side they are.
    error : float
        What the errors of steps may do to g.
    """

    g: Floats
    noise: Floats
    error: float


def distances(field: Field, log_tau: float, x: Floats) -> Distances:
    """Return the preactivations, and how far they can be believed."""
    model, inputs = _kinked(field), field.inputs
    if field.frame == "rich":
        magnitudes = inputs.once("magnitudes", lambda: field.problem.model.inputs(np.abs(inputs.values)))
        g, sizes = model.preactivations(x, inputs), model.preactivations(np.abs(x), magnitudes)
        noise = _NOISE * sizes
    else:
        g, size = model.preactivation_quotients(field.problem.direction, x, field.log_eps(log_tau), inputs)
        # z/eps at theta_bar, of that size where g is 0, has the relative error of eps, whose exponent may be large
        tau = math.exp(log_tau) if field.decaying else 0.0
        exponent = field.problem.model.degree * (abs(field.problem.log_alpha) + tau * max(1.0, abs(log_tau)))
        sizes = np.full(g.size, size)
        noise = (_NOISE + _UNIT * exponent) * sizes
    error = field.negligible * float(np.max(sizes, initial=0.0)) / max(float(np.max(np.abs(x))), 1e-300)
    return Distances(g, np.where(sizes >= error, noise, -1.0), error)


def normals(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> Floats:
    """Return the gradients of g at some kinks, shape (k, P)."""
    return _kinked(field).preactivation_gradients(field.moved(log_tau, x), field.inputs, kinks)


def _kinked(field: Field) -> Kinked:
    return cast(Kinked, field.problem.model)  # asked once, in `sides`


class Rates(NamedTuple):
    """The products of normals and force at some kinks, shape (k,), and sums of the sizes of their terms.

    Not the norms: the largest force may act on parameters that these kinks do not depend on.
    """

    products: Floats
    sizes: Floats

    @property
    def parts(self) -> Floats:
        """The products as parts of those sums, from -1 to 1, shape (k,)."""
        return self.over(np.zeros_like(self.sizes))

    def over(self, floors: Floats) -> Floats:
        """Return the products as parts of those sums where these are no less than some floors, else of the floors."""
        out: Floats = self.products / np.maximum(np.maximum(self.sizes, floors), 1e-300)
        return out


def rates(field: Field, log_tau: float, x: Floats, kinks: Sequence[int], slopes: Floats) -> Rates:
    """Return the rates at which a flow with these slopes at some kinks leaves them."""
    now = field.on_piece(kinks, slopes)
    assert now.inputs.piece is not None
    if not np.all(np.isfinite(now.inputs.piece)):  # no slopes hold the flow on some kink
        return Rates(np.full(len(kinks), np.nan), np.ones(len(kinks)))
    gradients, pull = normals(now, log_tau, x, kinks), now.pull(log_tau, x)
    return Rates(gradients @ pull, np.abs(gradients) @ np.abs(pull))


class Effects(NamedTuple):
    """What the slopes at some kinks do to the gradients of the outputs of their own samples.

    Outputs do not depend on them, since g is 0 there. A gradient is of first order in each.

    Attributes
    ----------
    gradients : ndarray, shape (k, outputs of a sample, P)
    samples : ndarray of int, shape (k,)
    """

    gradients: Floats
    samples: NDArray[np.intp]

    def on(self, c: Floats) -> Floats:
        """Return the derivatives of sum_i c_i grad f_i in the slopes, shape (P, k)."""
        own = c.reshape(len(c), -1)[self.samples]
        return np.asarray(np.einsum("kc,kcp->pk", own, self.gradients))


def effects(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> Effects:
    """Return what the slopes at some kinks do, on the piece of the field."""
    model, k, piece = _kinked(field), len(kinks), field.inputs.piece
    assert piece is not None
    pieces = np.tile(piece, (2 * k, 1))
    pieces[np.arange(k), kinks], pieces[np.arange(k, 2 * k), kinks] = 1.0, 0.0
    samples = model.samples_of(field.inputs, kinks)
    inputs = model.picked(field.inputs, np.tile(samples, 2), pieces)
    features = field.problem.model.features(inputs, field.moved(log_tau, x)).reshape(2 * k, -1, x.size)
    return Effects(features[:k] - features[k:], samples)


def responses(field: Field, log_tau: float, x: Floats, kinks: Sequence[int], slopes: Floats) -> Floats:
    """Return the derivatives of the products in the slopes, shape (k, k)."""

    def turned(to: Floats) -> Floats:
        return normals(field.on_piece(kinks, to), log_tau, x, kinks)

    now, gradients = field.on_piece(kinks, slopes), turned(slopes)
    matrix: Floats = gradients @ effects(now, log_tau, x, kinks).on(now.pulling(log_tau, x))
    if np.any(turned(slopes + _STEP) != gradients):  # normals of later layers turn with slopes of earlier ones
        pull = now.pull(log_tau, x)
        steps = _STEP * np.eye(slopes.size)
        turns = [(turned(slopes + step) - turned(slopes - step)) @ pull / (2.0 * _STEP) for step in steps]
        matrix = matrix + np.array(turns).T
    return matrix


def holding_slopes(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> Floats:
    """Return the slopes with which the flow stays on some kinks, shape (k,); nan where there are none.

    By Newton's method from the slopes of the piece, or from the middle. The products are of first order in each slope:
    one step is enough for kinks of one layer.
    """
    assert field.inputs.piece is not None
    piece = field.inputs.piece[list(kinks)]
    for slopes in (piece, np.full_like(piece, 0.5)):
        left = math.inf
        for _ in range(_ITERATIONS):
            rate = rates(field, log_tau, x, kinks, slopes)
            left, previous = float(np.max(np.abs(rate.parts))), left
            if left <= _SOLVED or 0.5 * previous <= left <= _round_off(field, log_tau, x, kinks):
                return slopes
            if not np.all(np.isfinite(rate.products)):  # a trial point that is too far off
                break
            matrix = responses(field, log_tau, x, kinks, slopes)
            if not np.all(np.isfinite(matrix)):
                break
            newton = -solution(matrix / np.maximum(rate.sizes, 1e-300)[:, None], rate.parts)
            move = np.clip(slopes + newton, -_FARTHEST, _FARTHEST) - slopes
            if np.all(np.abs(move) <= _STUCK * np.abs(slopes)):
                if left <= _round_off(field, log_tau, x, kinks):
                    return slopes
                break
            slopes = slopes + move
    return np.full_like(piece, np.nan)


def magnified(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> float:
    """Return how much larger relative errors may be in rates at some kinks than in the outputs of their samples.

    Those of the forces are, where they do not come with digits of their own; and slopes are as much smaller than 1 as
    the force of their sample is larger than the others'.
    """
    if field.exact:
        return max(1.0, 1.0 / float(np.min(_natural_slopes(field, log_tau, x, kinks), initial=1.0)))
    f, y = field.outputs(log_tau, x), np.asarray(field.problem.data.y)
    if field.problem.loss != "squared":
        return max(1.0, float(np.max(np.abs(f))))
    residuals = np.abs(f - y)[_kinked(field).samples_of(field.inputs, kinks)]
    return float(np.max(np.abs(y))) / max(float(np.min(residuals, initial=math.inf)), 1e-300)


def _natural_slopes(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> Floats:
    """Return the slopes with which the samples at some kinks would pull as much as most do, at most 1, shape (k,)."""
    pulls = np.max(np.abs(field.pulling(log_tau, x)).reshape(len(field.inputs), -1), axis=1)
    own = pulls[_kinked(field).samples_of(field.inputs, kinks)]
    return np.minimum(1.0, np.median(pulls) / np.maximum(own, 1e-300))


def onto(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> Floats:
    """Return x moved onto some kinks, along their normals."""
    if not kinks:
        return x
    moved: Floats = (
        x - np.linalg.lstsq(normals(field, log_tau, x, kinks), distances(field, log_tau, x).g[list(kinks)])[0]
    )
    return moved


def drawn(field: Given, log_tau: float, x: Floats, kinks: Sequence[int] = ()) -> Floats:
    """Return x moved along some kinks to where its outputs leave the c of a field of the squared loss.

    What the errors of steps do to the outputs is less than their tolerance, but times A~ it is not.
    """
    model, y = field.problem.model, np.asarray(field.problem.data.y)
    wanted = y - 0.5 * field.c / np.exp(field.log_shares + field.log_stiffness(log_tau) + field.log_rate(log_tau))
    for _ in range(2):
        miss = field.outputs(log_tau, x) - wanted
        rows = np.reshape(model.features(field.inputs, field.moved(log_tau, x)), (miss.size, x.size))
        if kinks:
            gradients = normals(field, log_tau, x, kinks)
            rows = rows - rows @ np.linalg.pinv(gradients) @ gradients
        lengths = np.linalg.norm(rows, axis=1)
        seen = lengths > _INDEPENDENT * np.max(lengths, initial=0.0)
        right = miss.ravel()[seen] / lengths[seen]
        x = x - np.linalg.lstsq(rows[seen] / lengths[seen, None], right, rcond=_INDEPENDENT)[0]
        x = onto(field, log_tau, x, kinks)
    return x


def _round_off(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> float:
    """Return which part of the terms of a rate may be round-off."""
    return min(max(_ROUND_OFF, 16.0 * _UNIT * magnified(field, log_tau, x, kinks)), _MOST_ROUND_OFF)


def solution(matrix: Floats, right: Floats) -> Floats:
    """Return x with matrix x = right, of least norm where columns, all of one size, depend on one another.

    Those of samples that no unit has seen may be larger than others by e^q.
    """
    lengths = np.max(np.abs(matrix), axis=0)
    if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(right))):
        return np.full(right.shape, np.nan)
    lengths[lengths == 0.0] = 1.0
    scaled: Floats = np.linalg.lstsq(matrix / lengths, right)[0]
    return (scaled.T / lengths).T


def across(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> tuple[Floats, Floats]:
    """Return B (P, k) and C (k, P): I - B C projects a force onto the kinks, along what their slopes do to it."""
    moved = effects(field, log_tau, x, kinks).on(field.pulling(log_tau, x))
    gradients = normals(field, log_tau, x, kinks)
    return moved, solution(gradients @ moved, gradients)


def along(matrix: Floats, moved: Floats, gradients: Floats) -> Floats:
    """Return (I - B C) matrix."""
    projected: Floats = matrix - moved @ (gradients @ matrix)
    return projected


def margins(field: Field, log_tau: float, x: Floats) -> tuple[Floats, Floats]:
    """Return how far the flow is from leaving its piece at every kink, and the error of that, shapes (K,).

    At a kink that it slides along, that is how far the slope is from the ends of its interval.
    """
    g, noise, error = distances(field, log_tau, x)
    piece = field.inputs.piece
    assert piece is not None
    margin, noises, grazing = np.where(piece == 1.0, g, -g), np.maximum(noise, error), list(field.grazing)
    margin[list(field.resting)] = np.inf
    margin[grazing] += _GRAZING / _NOISE * np.maximum(noise[grazing], 0.0)
    if field.held:
        low = float(_kinked(field).slopes([-1.0])[0])
        slopes, held = holding_slopes(field, log_tau, x, field.held), list(field.held)
        margin[held] = np.nan_to_num(np.minimum(slopes - low, 1.0 - slopes), nan=-1.0)  # nothing holds the flow there
        # the force on the other side may be so much larger that all slopes are tiny
        least = _LEAST_SLOPE * _natural_slopes(field, log_tau, x, held) if field.exact else 0.0
        noises[held] = np.minimum(1e-12, np.maximum(1e-3 * np.abs(piece[held] - low), least))
    return margin, noises


def first_meeting(at: At, start: float, end: float) -> Meeting | None:
    """Return the first kink that a step meets, located on its dense output; None where it stays on its piece."""

    def looked(clock: float) -> tuple[Floats, NDArray[np.intp]]:
        margin, noise = margins(*at(clock))
        return margin, np.flatnonzero(margin < -noise)

    clocks, seen = [start], [looked(start)[0]]
    for part in _LOOKS:
        clock = start + part * (end - start)
        margin, left = looked(clock)
        if left.size == 0 and len(seen) > 1:
            clock, margin, left = _dip(looked, clocks, seen, clock, margin, left)
        if left.size > 0:
            return _located(looked, clocks[-1], clock, left)
        clocks.append(clock)
        seen.append(margin)
    return None


Looked = Callable[[float], tuple[Floats, NDArray[np.intp]]]


def _dip(
    looked: Looked, clocks: list[float], seen: list[Floats], clock: float, margin: Floats, left: NDArray[np.intp]
) -> tuple[float, Floats, NDArray[np.intp]]:
    """Look where parabolas through the last three looks dip below 0; return that look if it holds, else the last."""
    before, middle = seen[-2], seen[-1]
    with np.errstate(all="ignore"):
        bend, slope = 0.5 * (before - 2.0 * middle + margin), 0.5 * (margin - before)
        place = -slope / (2.0 * bend)
        lowest = middle + place * (slope + place * bend)
        dips = (bend > 0.0) & (np.abs(place) < 1.0) & (lowest < 0.0)
    if not np.any(dips):
        return clock, margin, left
    width = clock - clocks[-1]
    inside = clocks[-1] + float(place[dips][np.argmin(lowest[dips])]) * width
    margin_inside, left_inside = looked(inside)
    if left_inside.size == 0:
        return clock, margin, left
    if inside < clocks[-1]:  # it was in the interval before
        clocks.pop()
        seen.pop()
    return inside, margin_inside, left_inside


def _located(looked: Looked, start: float, end: float, left: NDArray[np.intp]) -> Meeting:
    """Return the first of the kinks met between two looks."""
    located = list[int]()  # at round-off kinks may each seem to be met before the other
    while True:
        kink = int(left[0])
        located.append(kink)
        low, high = float(looked(start)[0][kink]), float(looked(end)[0][kink])
        if low <= 0.0:
            return Meeting(start, kink)
        if high >= 0.0:
            return Meeting(end, kink)
        xtol = 1e-15 * max(abs(start), abs(end))
        end = root_between(lambda clock, j=kink: float(looked(clock)[0][j]), start, end, xtol)  # type: ignore[misc]
        left = looked(end)[1]
        left = left[~np.isin(left, located)]
        if left.size == 0:
            return Meeting(end, kink)


def continued(
    field: Field, log_tau: float, x: Floats, met: Sequence[int], tie: float = TIE
) -> tuple[Field, Floats] | None:
    """Return the field of the piece on which the flow goes on from some kinks, and x moved onto them; None without one.

    Kinks at round-off from x count as met, too. `tie` is the part of its terms below which a rate counts as zero.
    """
    assert field.inputs.piece is not None
    g, near, _ = distances(field, log_tau, x)
    near[list(field.grazing)] *= _GRAZING / _NOISE  # others have left on the side that they were on
    kinks = sorted({*field.held, *field.resting, *met, *map(int, np.flatnonzero(np.abs(g) <= near))})
    gradients = normals(field, log_tau, x, kinks)
    kinks = [kink for kink, gradient in zip(kinks, gradients, strict=True) if np.any(gradient)]
    if not kinks:
        return field.on_piece((), np.zeros(0)), x
    for _ in range(2):  # what is left of g is an error of the steps
        x = onto(field, log_tau, x, kinks)
    free = np.isin(kinks, [kink for kink in field.held if kink not in met])
    crossing = _Crossing(field, log_tau, x, kinks, tie, _floors(field, log_tau, x, kinks))
    chosen = _choice(crossing, free)
    if chosen is None:
        return None
    slopes, free = chosen
    field = field.on_piece(kinks, slopes)
    gradients = normals(field, log_tau, x, kinks)
    apart = gradients - gradients @ np.linalg.pinv(gradients[free]) @ gradients[free]
    resting = ~free & (np.linalg.norm(apart, axis=1) <= _DEPENDENT * np.linalg.norm(gradients, axis=1))
    left = rates(field, log_tau, x, kinks, slopes).over(crossing.floors)
    tied = ~free & ~resting & (np.abs(left) <= tie)
    held, rest, grazing = (tuple(np.array(kinks)[chosen].tolist()) for chosen in (free, resting, tied))
    return replace(field, held=held, resting=rest, grazing=grazing), x


def _floors(field: Field, log_tau: float, x: Floats, kinks: Sequence[int]) -> Floats:
    """Return what natural slopes at some kinks would add to their own rates, shape (k,).

    Where c has digits of its own: the terms of a rate may all be tiny, while slopes have an error of round-off.
    """
    if not field.exact:
        return np.zeros(len(kinks))
    moved = effects(field, log_tau, x, kinks).on(field.pulling(log_tau, x))
    own = np.einsum("kp,pk->k", normals(field, log_tau, x, kinks), moved)
    return np.abs(own) * _natural_slopes(field, log_tau, x, kinks)


Choice = tuple[Floats, NDArray[np.bool_]]
"""Slopes at some kinks, and which of these are held there."""


def _choice(crossing: _Crossing, free: NDArray[np.bool_]) -> Choice | None:
    """Return slopes that the flow can go on with, each at the end that it is driven to or held, and which are held.

    By pivoting, and where that comes to no end by trying what differs least from where the flow comes from.
    """
    assert crossing.field.inputs.piece is not None
    low, slopes = crossing.low, crossing.field.inputs.piece[list(crossing.kinks)]
    slopes[~free] = np.where(slopes[~free] < 0.5 * (low + 1.0), low, 1.0)  # what was held and is met has come to an end
    return crossing.pivoted(slopes.copy(), free.copy()) or crossing.searched(slopes, free)


class _Crossing(NamedTuple):
    """A point on some kinks, and the part of its terms, or of a floor, below which a rate counts as zero."""

    field: Field
    log_tau: float
    x: Floats
    kinks: Sequence[int]
    tie: float
    floors: Floats

    @property
    def low(self) -> float:
        """The lower end of the intervals of slopes."""
        return float(_kinked(self.field).slopes([-1.0])[0])

    def solved(self, slopes: Floats, free: NDArray[np.bool_]) -> Field:
        """Return the field with these slopes, those of the free kinks such that they are held."""
        now = self.field.on_piece(self.kinks, slopes)
        own = [kink for kink, slides in zip(self.kinks, free, strict=True) if slides]
        return now.on_piece(own, holding_slopes(now, self.log_tau, self.x, own)) if own else now

    def judged(self, slopes: Floats, free: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_] | None]:
        """Return the slopes, those of the free kinks held, and which are wrong; None where nothing holds the flow."""
        now = self.solved(slopes, free)
        assert now.inputs.piece is not None
        slopes = now.inputs.piece[list(self.kinks)]
        rate = rates(self.field, self.log_tau, self.x, self.kinks, slopes).over(self.floors)
        if not np.all(np.isfinite(rate)):
            return slopes, None
        ends = np.where(slopes == self.low, rate > self.tie, rate < -self.tie)
        return slopes, np.where(free, (slopes < self.low) | (slopes > 1.0), ends)

    def pivoted(self, slopes: Floats, free: NDArray[np.bool_]) -> Choice | None:
        """Pivot on the first one that is wrong, which ends where the responses form a P-matrix (kinks of one unit)."""
        been = set()
        while (state := tuple(np.where(free, np.nan, slopes).astype(str))) not in been:
            been.add(state)
            slopes, wrong = self.judged(slopes, free)
            if wrong is None:
                return None
            if not np.any(wrong):
                return slopes, free
            first = int(np.flatnonzero(wrong)[0])
            if free[first]:
                slopes[first], free[first] = (self.low if slopes[first] < self.low else 1.0), False
                continue
            other = slopes.copy()
            other[first] = 1.0 if slopes[first] == self.low else self.low
            now = self.solved(other, free)
            there = float(rates(now, self.log_tau, self.x, [self.kinks[first]], other[[first]]).products[0])
            if there * (other[first] - slopes[first]) >= 0.0:
                slopes = other
            else:
                free[first] = True
        return None

    def searched(self, slopes: Floats, free: NDArray[np.bool_]) -> Choice | None:
        """Try both ends and holding at one kink, at two, ...: what the flow can go on with need not be near.

        None, too, where those with as many changes do not agree on where it goes.
        """
        tries = islice(self._others(slopes, free), _TRIES)
        for _, others in groupby(tries, key=lambda other: other[0]):
            found: list[Choice] = []
            for _, other, held in others:
                other, wrong = self.judged(other, held)
                if wrong is not None and not np.any(wrong):
                    found.append((other, held))
            if found:
                pulls = [self.field.on_piece(self.kinks, other).pull(self.log_tau, self.x) for other, _ in found]
                agree = all(np.linalg.norm(pull - pulls[0]) <= _AGREE * np.linalg.norm(pulls[0]) for pull in pulls)
                return found[0] if agree else None
        return None

    def _others(self, slopes: Floats, free: NDArray[np.bool_]) -> Iterator[tuple[int, Floats, NDArray[np.bool_]]]:
        """Yield numbers of kinks, slopes that differ there, and which are held."""
        for count in range(1, len(self.kinks) + 1):
            for some in combinations(range(len(self.kinks)), count):
                for states in product((self.low, 1.0, None), repeat=count):
                    other, held = slopes.copy(), free.copy()
                    other[list(some)] = [0.5 if state is None else state for state in states]
                    held[list(some)] = [state is None for state in states]
                    yield count, other, held
