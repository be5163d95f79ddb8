"""Margins and interpolation in every norm against others: one table each, for the tests and for the evidence.

python tests/oracle/norm_programs.py 200
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from theorykit._numerics.errors import InconsistentError, InputError, NotSeparableError
from theorykit.programs import CertificateError, MaxMargin, MinNorm, max_margin, min_norm

Array = NDArray[np.float64]
Groups = NDArray[np.int64]
NORMS: tuple[Any, ...] = (1, 2, "inf", "group")
SHAPES = ((3, 8), (5, 12), (12, 12), (10, 30), (20, 25), (30, 90))
TIGHT = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}


def random_data(rng: np.random.Generator, index: int) -> tuple[Array, Array, Array, Groups]:
    """Return X, labels that a hidden vector gives, real targets, and groups; three kinds of features take turns."""
    n, d = SHAPES[index % len(SHAPES)]
    X = rng.standard_normal((n, d))
    if index % 3 == 1:
        X = rng.integers(-3, 4, (n, d)).astype(np.float64)
        X[np.arange(n), np.arange(n)] += 0.5  # no zero row
    elif index % 3 == 2:
        X = X * 10.0 ** rng.uniform(-1.5, 1.5, d)
    outputs = X @ rng.standard_normal(d)
    return X, np.where(outputs >= 0.0, 1.0, -1.0), rng.standard_normal(n), rng.integers(0, max(2, d // 3), d)


def margin_value_by_scipy(Z: Array, kind: Any) -> float:
    """Return the least norm subject to Z w >= 1, for norm 1 and inf, by SciPy's dual simplex on w = u - v."""
    return _linear_program(kind, Z.shape[1], A_ub=-Z, b_ub=-np.ones(len(Z)))


def norm_value_by_scipy(X: Array, y: Array, kind: Any) -> float:
    """Return the least norm subject to X w = y, for norm 1 and inf, by SciPy's dual simplex on w = u - v."""
    return _linear_program(kind, X.shape[1], A_eq=X, b_eq=y)


def _linear_program(kind: Any, d: int, **rows: Array) -> float:
    split = {name: np.hstack((value, -value)) if value.ndim == 2 else value for name, value in rows.items()}
    if kind == 1:
        return float(linprog(np.ones(2 * d), method="highs-ds", **split).fun)
    split = {
        name: np.hstack((value, np.zeros((len(value), 1)))) if value.ndim == 2 else value
        for name, value in split.items()
    }
    box = np.hstack((np.eye(d), np.eye(d), -np.ones((d, 1))))  # u + v <= t
    if "A_ub" in split:
        box, bound = np.vstack((split.pop("A_ub"), box)), np.append(split.pop("b_ub"), np.zeros(d))
    else:
        bound = np.zeros(d)
    return float(linprog(np.append(np.zeros(2 * d), 1.0), A_ub=box, b_ub=bound, method="highs-ds", **split).fun)


def value_by_clarabel(A: Array, b: Array, kind: Any, groups: Groups, *, equations: bool) -> float:
    """Return the least norm subject to A w >= b (or = b), written out group by group, at tight tolerances."""
    import cvxpy as cp

    w = cp.Variable(A.shape[1])
    parts = [np.arange(A.shape[1])] if kind == 2 else [np.flatnonzero(groups == g) for g in np.unique(groups)]
    size = cp.sum([cp.norm(w[part], 2) for part in parts])
    problem = cp.Problem(cp.Minimize(size), [A @ w == b if equations else A @ w >= b])
    problem.solve(solver="CLARABEL", **TIGHT)
    return float(problem.value)


def agreement(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per problem, program and norm: our interval for the least norm, theirs, how far they differ."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        X, labels, targets, groups = random_data(rng, index)
        for kind in NORMS:
            chosen = groups if kind == "group" else None
            exact = kind in (1, "inf")
            margin = max_margin(X, labels, norm=kind, groups=chosen).certificate
            Z = labels[:, None] * X
            theirs = (
                margin_value_by_scipy(Z, kind)
                if exact
                else value_by_clarabel(Z, np.ones(len(Z)), kind, groups, equations=False)
            )
            table.append(_row(index, "margin", kind, X, 1.0 / margin.upper, 1.0 / margin.lower, theirs))
            norm = min_norm(X, targets, norm=kind, groups=chosen).certificate
            theirs = (
                norm_value_by_scipy(X, targets, kind)
                if exact
                else value_by_clarabel(X, targets, kind, groups, equations=True)
            )
            table.append(_row(index, "least norm", kind, X, norm.lower, norm.upper, theirs))
    return table


def _row(index: int, program: str, norm: Any, X: Array, lower: float, upper: float, theirs: float) -> dict[str, Any]:
    return {
        "problem": index,
        "program": program,
        "norm": norm,
        "n": X.shape[0],
        "d": X.shape[1],
        "lower": lower,
        "upper": upper,
        "gap": upper / lower - 1.0,
        "theirs": theirs,
        "difference": abs(theirs / upper - 1.0),
    }


# --- tampering ------------------------------------------------------------------------------------------------------


def nudged(array: Any, index: int, change: float) -> Any:
    """Change one entry, relatively (or to the change itself where the entry is zero)."""
    changed = np.array(array, dtype=np.float64)
    flat = changed.reshape(-1)
    k = index % flat.size
    flat[k] = flat[k] * (1.0 + change) if flat[k] else change
    return changed if changed.ndim else float(changed)


def tampering(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per tampered or stale result: what was changed, by how much, and whether it was rejected.

    Data, vectors, bounds and saved files take turns, on both programs and all norms; the true results must verify.
    """
    rng = np.random.default_rng(seed)
    results = []
    for index in range(6):
        X, labels, targets, groups = random_data(rng, index)
        for kind in NORMS:
            chosen = groups if kind == "group" else None
            results += [max_margin(X, labels, norm=kind, groups=chosen), min_norm(X, targets, norm=kind, groups=chosen)]
    for result in results:
        assert result.certificate.verify(result.X, result.y)
    names = ["X", "y", "w", "dual", "lower", "upper", "norm", "file"]
    table = []
    for index in range(count):
        result, name = results[index % len(results)], names[(index // len(results)) % len(names)]
        change = float(rng.choice([1e-6, 1e-4, 0.5]) * rng.choice([-1.0, 1.0]))
        rejected = _rejected(result, name, int(rng.integers(10**6)), change)
        table.append({"what": type(result).__name__, "norm": result.norm, "changed": name, "rejected": rejected})
    return table


def _rejected(result: MaxMargin | MinNorm, name: str, index: int, change: float) -> bool:
    """Whether the result, changed in one place, is refused."""
    certificate, X, y = result.certificate, result.X, result.y
    if name == "file":
        return _file_refused(result, index, change)
    if name == "X":
        X = nudged(X, index, change)
    elif name == "y" and isinstance(result, MaxMargin):
        y = y * np.where(np.arange(len(y)) == index % len(y), -1.0, 1.0)
    elif name == "y":
        y = nudged(y, index, change)
    elif name == "norm":
        certificate = dataclasses.replace(certificate, norm=3 - certificate.norm if certificate.norm in (1, 2) else 2)
    else:
        changed = nudged(getattr(certificate, name), index, change)
        certificate = dataclasses.replace(certificate, **{name: changed})
    try:
        certificate.verify(X, y)
    except CertificateError:
        return True
    return False


def _file_refused(result: MaxMargin | MinNorm, index: int, change: float) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.npz"
        result.save(path)
        with np.load(path) as file:
            entries = dict(file)
        name = ("X", "y", "w", "dual")[index % 4]
        np.savez(path, **(entries | {name: nudged(entries[name], index, change)}))
        try:
            type(result).load(path)
        except InputError:
            return True
    return False


# --- exact proofs that there is no solution ---------------------------------------------------------------------------


def infeasible(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per random set that is not separable, or system that is inconsistent: is its proof exact?"""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        d = int(rng.integers(1, 9))
        n = int(rng.integers(5 * d + 2, 9 * d + 6))  # separable with a chance below 1e-3
        X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4, d)
        if index % 2:
            X = rng.integers(-9, 10, (n, d)).astype(np.float64)
        y = np.where(rng.random(n) < 0.5, 1.0, -1.0)
        targets = rng.standard_normal(n)
        try:
            max_margin(X, y, norm=NORMS[index % 3])
            proved: bool | None = None
        except NotSeparableError as error:
            proved = error.farkas is not None and farkas_holds(X, y, error.farkas)
        table.append({"program": "margin", "n": n, "d": d, "proved": proved})
        try:
            min_norm(X, targets, norm=NORMS[index % 3])
            consistent: bool | None = None
        except InconsistentError as error:
            consistent = error.proof is not None and contradiction_holds(X, targets, error.proof)
        table.append({"program": "least norm", "n": n, "d": d, "proved": consistent})
    return table


def farkas_holds(X: Array, y: Array, mu: Any) -> bool:
    """Check mu >= 0, sum mu = 1, sum mu_i y_i x_i = 0 with Python's fractions."""
    weights = [m * int(label) for m, label in zip(mu, y, strict=True)]
    return min(mu) >= 0 and sum(mu) == 1 and not any(_combined(X, weights))


def contradiction_holds(X: Array, y: Array, nu: Any) -> bool:
    """Check sum nu_i x_i = 0 and sum nu_i y_i = 1 with Python's fractions."""
    return not any(_combined(X, list(nu))) and sum(w * Fraction(t) for w, t in zip(nu, y.tolist(), strict=True)) == 1


def _combined(X: Array, weights: list[Fraction]) -> list[Fraction]:
    return [
        sum((w * Fraction(x) for w, x in zip(weights, column, strict=True)), Fraction(0)) for column in X.T.tolist()
    ]


# --- uniqueness -------------------------------------------------------------------------------------------------------


def uniqueness(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per small degenerate problem: our verdict, and the width of the set of solutions by SciPy.

    The width is the largest range of one weight over the solutions of norm at most 1 + 1e-9 times the least.
    """
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        n, d = int(rng.integers(1, 7)), int(rng.integers(2, 7))
        X = rng.integers(-2, 3, (n, d)).astype(np.float64)
        hidden = rng.integers(-2, 3, d).astype(np.float64)
        kind = (1, "inf")[index % 2]
        labels = np.where(X @ hidden >= 0.0, 1.0, -1.0)
        solve: Callable[[], Any]
        if index % 4 < 2:
            solve, rows = (lambda X=X, y=labels, k=kind: max_margin(X, y, norm=k)), (labels[:, None] * X, np.ones(n))
        else:
            solve, rows = (lambda X=X, y=X @ hidden, k=kind: min_norm(X, y, norm=k)), (X, X @ hidden)
        try:
            result = solve()
        except NotSeparableError:
            continue
        found = _width(*rows, kind, float(np.linalg.norm(result.w, result.norm)), equations=index % 4 >= 2)
        table.append(
            {"n": n, "d": d, "norm": kind, "program": type(result).__name__, "said": result.uniqueness, "width": found}
        )
    return table


def _width(A: Array, b: Array, kind: Any, size: float, *, equations: bool) -> float:
    d = A.shape[1]
    limit = size * (1.0 + 1e-9)
    wide = np.hstack((A, -A))
    above = np.ones((1, 2 * d)) if kind == 1 else np.hstack((np.eye(d), np.eye(d)))
    rows: dict[str, Any] = {"A_ub": above, "b_ub": np.full(len(above), limit)}
    if equations:
        rows |= {"A_eq": wide, "b_eq": b}
    else:
        rows = {"A_ub": np.vstack((above, -wide)), "b_ub": np.append(np.full(len(above), limit), -b * (1.0 - 1e-9))}
    widths = []
    for k in range(d):
        goal = np.zeros(2 * d)
        goal[k], goal[d + k] = 1.0, -1.0
        ends = [linprog(side * goal, method="highs", **rows).fun for side in (1.0, -1.0)]
        widths.append(-(ends[0] + ends[1]))
    return float(max(widths)) / max(size, 1e-300)


def main(count: int) -> None:
    rows = agreement(count)
    print(
        f"{len(rows)} agreements: largest gap {max(r['gap'] for r in rows):.1e}, "
        f"largest difference {max(r['difference'] for r in rows):.1e}"
    )
    changed = tampering(5 * count)
    print(f"{sum(r['rejected'] for r in changed)} of {len(changed)} tampered results rejected")
    proofs = infeasible(count)
    print(
        f"{sum(r['proved'] is True for r in proofs)} of {len(proofs)} infeasible programs proved in exact arithmetic, "
        f"{sum(r['proved'] is None for r in proofs)} were feasible"
    )
    said = uniqueness(count)
    for verdict in ("proved", "disproved", "unknown"):
        widths = [r["width"] for r in said if r["said"] == verdict]
        print(
            f"uniqueness {verdict}: {len(widths)}, widths {min(widths, default=0):.1e} to {max(widths, default=0):.1e}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
