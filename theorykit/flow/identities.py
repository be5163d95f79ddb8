"""Exact identities that every gradient flow of this kind obeys, and by how much a trajectory misses them.

They do not come from the step control and no integrator can fake them:

- norm: d|theta|^2/dtau = -2|theta|^2 - (2L/(n lambda)) sum_i loss'_i f_i (Euler's identity for an L-homogeneous model);
- energy: L_lambda falls by lambda times the integral of |dtheta/dtau|^2 dtau;
- balancedness: u_k v_k e^{2 tau} (L = 2), or s_v|u_k|^(-(L-2)) + s_u|v_k|^(-(L-2)) times e^{-(L-2) tau}, stays
  constant.
"""

from __future__ import annotations

import math

import numpy as np

from theorykit._numerics.threads import one_blas_thread
from theorykit.flow import _diagonal as compiled
from theorykit.flow.evaluate import Floats, Path, log_sum_of_squares
from theorykit.flow.reduction import Segment
from theorykit.flow.tableaus import radau_iia
from theorykit.losses import log_loss, log_minus_derivative, loss_code

_ENTRIES_AT_ONCE = 2**22
_WIDEST = 0.25


@np.errstate(under="ignore")
def drifts(path: Path) -> dict[str, float | None]:
    """Return the largest relative drift of each identity along the whole path.

    Returns
    -------
    dict
        ``norm``: |integrated - actual| |theta|^2 relative to the sum of the absolute terms, accumulated over the path;
        ``energy``: sum over steps of the residual relative to L_lambda at the step's start;
        ``balancedness``: relative change of the invariant, largest over coordinates. For lambda = 0 the identities are
        those in flow time, that of the energy for log L; norm and energy are None for the squared loss there, whose
        residuals fall to round-off.
    """
    formed = _is_decaying(path) or not path.squared
    with one_blas_thread():
        norm, energy = _norm_and_energy(path) if formed else (None, None)
    return {"norm": norm, "energy": energy, "balancedness": _balancedness(path)}


def _is_decaying(path: Path) -> bool:
    return path.reduction.problem.log_weight_decay > -math.inf


def _balancedness(path: Path) -> float:
    """Return the largest relative change of the invariant over the ends of all segments and some times between."""
    times = np.concatenate(
        [[path.start], np.linspace(path.start, path.end, 9)[1:], np.log(np.linspace(0.02, 1, 33)) + path.end]
    )
    times = np.unique(times[(times >= path.start) & (times <= path.end)])
    decaying = _is_decaying(path)
    first: Floats | None = None
    worst = 0.0
    for log_tau in times:
        log_u, log_v = (part[0] for part in path.log_coordinates(np.array([log_tau])))
        tau = math.exp(log_tau) if decaying else 0.0
        if path.degree == 2:
            value = log_u + log_v + 2.0 * tau
        else:
            power = path.degree - 2
            value = np.logaddexp(-power * log_u, -power * log_v) - power * tau
            signs = path.integration.segments[0].pack[6][2:]
            value = np.where(signs[0] == signs[1], value, np.nan)
        finite = np.isfinite(value)
        first = value if first is None else first
        if finite.any():
            worst = max(worst, float(np.max(np.abs(np.expm1(np.clip((value - first)[finite], -700, 700))))))
    return worst


def _norm_and_energy(path: Path) -> tuple[float, float]:
    """Follow both identities over all steps with Radau quadrature on the dense output."""
    norm_drift, worst_norm, energy_drift = 0.0, 0.0, 0.0
    rows = max(1, _ENTRIES_AT_ONCE // (7 * path.reduction.problem.data.d))
    for segment in path.integration.segments:
        starts, widths = _intervals(segment)
        for first in range(0, starts.size, rows):
            part = slice(first, first + rows)
            for residual, kept, energy in zip(*_residuals(path, segment, starts[part], widths[part]), strict=True):
                norm_drift = norm_drift * kept + residual
                worst_norm = max(worst_norm, abs(norm_drift))
                energy_drift += abs(energy)
    return worst_norm, energy_drift


def _intervals(segment: Segment) -> tuple[Floats, Floats]:
    """Return the steps of a segment, wide ones cut up: over them e^(-2 tau) is no polynomial."""
    parts = np.ones(segment.times.size) if segment.log_clock else np.maximum(1.0, np.ceil(segment.widths / _WIDEST))
    owner = np.repeat(np.arange(parts.size), parts.astype(np.int64))
    position = np.arange(owner.size) - np.searchsorted(owner, owner)
    widths = segment.widths[owner] / parts[owner]
    return segment.times[owner] + position * widths, widths


@np.errstate(over="ignore", invalid="ignore")  # what leaves the float range shows as a drift that is not finite
def _residuals(path: Path, segment: Segment, t: Floats, h: Floats) -> tuple[Floats, Floats, Floats]:
    """Return per interval: norm residual and share of the old norm (both relative to the new one), energy residual."""
    rule = radau_iia(segment.dense.shape[1])  # as exact as the steps are, and its last node is the end
    nodes, weights = rule.c, rule.b
    clocks = np.concatenate([t[:1], (t[:, None] + h[:, None] * nodes).ravel()])
    log_taus = clocks if segment.log_clock else np.log(clocks)
    half = 0.5 * log_taus if segment.log_clock else np.zeros_like(log_taus)  # sqrt(dtau/dclock), as a logarithm
    log_n, log_loss_, log_source, sign, log_speed = _terms(path, log_taus, half)
    decaying = _is_decaying(path)
    taus = np.exp(log_taus) if decaying else np.zeros_like(log_taus)

    def inside(values: Floats) -> Floats:
        return values[1:].reshape(t.size, nodes.size)

    def ends(values: Floats) -> tuple[Floats, Floats]:
        return values[:-1][:: nodes.size], values[nodes.size :: nodes.size]

    (n_a, n_b), (tau_a, tau_b) = ends(log_n), ends(taus)
    kept = np.exp(n_a - n_b - 2.0 * (tau_b - tau_a))
    source = np.exp(inside(log_source) - n_b[:, None] - 2.0 * (tau_b[:, None] - inside(taus)))
    gained = h * np.sum(weights * source * inside(sign), axis=1)
    scale = 1.0 + kept + h * np.sum(weights * source, axis=1)
    norm = (1.0 - kept - gained) / scale * 2.0
    if not decaying:  # the loss may fall by powers of ten in a step: its logarithm does so evenly
        e_a, e_b = ends(log_loss_)
        return norm, kept, e_b - e_a + h * np.sum(weights * np.exp(inside(log_speed) - inside(log_loss_)), axis=1)
    log_lambda = path.reduction.problem.log_weight_decay
    log_energy = np.logaddexp(log_loss_, log_lambda - math.log(2.0) + log_n)
    e_a, e_b = ends(log_energy)
    drop = np.exp(e_b - e_a) - 1.0
    spent = h * np.sum(weights * np.exp(log_lambda + inside(log_speed) - e_a[:, None]), axis=1)
    return norm, kept, drop + spent


def _terms(path: Path, log_taus: Floats, half: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return log|theta|^2, log L, log and sign of the norm's source, log|dtheta/dtau|^2 (the last two per clock)."""
    problem, degree = path.reduction.problem, path.degree
    log_u, log_v = path.log_coordinates(log_taus)
    log_n = np.logaddexp(log_sum_of_squares(log_u), log_sum_of_squares(log_v))
    log_rates, signs = _log_rates(path, log_taus)  # of -loss'_i/(n lambda), towards larger q (or f)
    q = path.outputs(log_taus)
    with np.errstate(divide="ignore"):
        logs = log_rates + np.log(np.abs(q))
    top = np.maximum(logs.max(axis=1), -1e300)  # finite where all residuals have underflowed
    total = np.sum(signs * np.sign(q) * np.exp(logs - top[:, None]), axis=1)
    with np.errstate(divide="ignore"):
        log_source = math.log(2.0 * degree) + top + np.log(np.abs(total)) + 2.0 * half
    # relative speed of a coordinate: -1 (of weight decay) + s L |u|^(L-2) g, with one reference scale in g's exponent
    decaying = _is_decaying(path)
    reference = np.maximum(log_u.max(axis=1), log_v.max(axis=1))
    log_scale = (degree - 2) * reference + half
    apart = np.zeros_like(half) if decaying else log_scale + log_rates.max(axis=1)  # t leaves the float range
    g = _forces(path, np.ascontiguousarray(signs * np.exp(log_rates + (log_scale - apart)[:, None])))
    anchor_signs = path.integration.segments[0].pack[6][2:]
    log_speed = np.full(log_taus.size, -np.inf)
    decay = np.exp(half)[:, None] if decaying else 0.0
    for logs_, sign in ((log_u, anchor_signs[0]), (log_v, -anchor_signs[1])):
        relative = degree * sign * np.exp((degree - 2) * (logs_ - reference[:, None])) * g - decay
        with np.errstate(divide="ignore"):
            log_speed = np.logaddexp(log_speed, log_sum_of_squares(logs_ + np.log(np.abs(relative))))
    log_speed += 2.0 * apart
    if path.squared:
        mantissa, log_size = path.residuals(log_taus)
        with np.errstate(divide="ignore"):
            log_mean = np.log(np.mean(mantissa**2, axis=1)) + 2.0 * log_size
    else:
        losses = log_loss(loss_code(problem.loss), q)
        highest = losses.max(axis=1)
        log_mean = highest + np.log(np.mean(np.exp(losses - highest[:, None]), axis=1))
    return log_n, log_mean, log_source, np.sign(total), log_speed


def _log_rates(path: Path, log_taus: Floats) -> tuple[Floats, Floats]:
    """Return logarithm and sign of -loss'_i/(n lambda), shapes (k, n)."""
    problem = path.reduction.problem
    shift = -(problem.log_weight_decay if _is_decaying(path) else 0.0) - math.log(problem.data.n)
    if path.squared:
        mantissa, log_scale = path.residuals(log_taus)
        with np.errstate(divide="ignore"):
            return np.log(2.0 * np.abs(mantissa)) + log_scale[:, None] + shift, -np.sign(mantissa)
    logs = log_minus_derivative(loss_code(problem.loss), path.outputs(log_taus)) + shift
    return logs, np.ones_like(logs)


def _forces(path: Path, rates: Floats) -> Floats:
    """Return rates @ Z, shape (k, d)."""
    reduction = path.reduction
    if reduction.z_small.size:
        return compiled.exponents(rates, path.integration.segments[0].pack)
    return rates @ reduction.z
