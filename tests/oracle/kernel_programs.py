"""Kernel programs against others, on random instances: one module, for the tests and for the evidence.

Each function takes the count and returns one row per instance. python tests/oracle/kernel_programs.py 200
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit.programs import CertificateError, kernel_interpolant, kernel_svm, quasinorm_margin
from theorykit.programs._sealed import digest

Array = NDArray[np.float64]
SHAPES = ((6, 9), (12, 12), (10, 40), (25, 60), (40, 15))


def random_problem(rng: np.random.Generator, index: int) -> tuple[Array, Array]:
    """Return features and labels that some h separates; Gaussian, integer and badly scaled samples take turns."""
    n, d = SHAPES[index % len(SHAPES)]
    X = rng.standard_normal((n, d))
    if index % 3 == 1:
        X = rng.integers(-3, 4, (n, d)).astype(np.float64)
    elif index % 3 == 2:
        X *= 10.0 ** rng.uniform(-2, 2, (n, 1))
    outputs = X @ rng.standard_normal(d)
    keep = np.abs(outputs) > 1e-9
    return X[keep], np.sign(outputs[keep])


def constraint_features(X: Array, y: Array, classes: int) -> Array:
    """Return z_k written out: y_i x_i, or x_i (x) (e_y - e_j) class by class."""
    if classes == 1:
        return y[:, None] * X
    rows = []
    for x, label in zip(X, y.astype(int), strict=True):
        for j in range(classes):
            if j != label:
                z = np.zeros((classes, X.shape[1]))
                z[label], z[j] = x, -x
                rows.append(z.ravel())
    return np.array(rows)


def by_clarabel(Z: Array, C: float) -> float:
    """Return the optimal value of the primal program, by Clarabel at tight tolerances."""
    import cvxpy as cp

    h = cp.Variable(Z.shape[1])
    price = 0.0 if np.isinf(C) else C * cp.sum(cp.pos(1 - Z @ h))
    constraints = [Z @ h >= 1] if np.isinf(C) else []
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(h) + price), constraints)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return float(problem.value)


def machines(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Hard and soft margins, signs and three classes, from features and from their Gram matrix, against Clarabel."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        X, y = random_problem(rng, index)
        classes = 3 if index % 2 else 1
        if classes == 3:
            y = (X @ rng.standard_normal((X.shape[1], 3))).argmax(axis=1).astype(float)
            classes = int(y.max()) + 1
            if classes < 2:
                continue
        size = float(np.median((X**2).sum(axis=1)))
        C = np.inf if index % 4 < 2 else 10.0 ** rng.uniform(-2, 2) / size
        theirs = by_clarabel(constraint_features(X, y, classes), C)
        for about in ("features", "gram"):
            given = {"X": X} if about == "features" else {"gram": X @ X.T}
            found = kernel_svm(y=y, C=None if np.isinf(C) else C, **given)
            c = found.certificate
            lower, upper = (0.5 / c.upper**2, 0.5 / c.lower**2) if np.isinf(C) else (c.lower, c.upper)
            row = {"problem": index, "about": about, "n": len(X), "d": X.shape[1], "classes": classes, "C": C}
            row |= {"gap": c.gap, "distance": found.distance_bound / found.norm, "perturbation": c.perturbation}
            row |= {"lower": lower, "upper": upper, "theirs": theirs}
            table.append(row | {"difference": max(lower - theirs, theirs - upper, 0.0) / upper})
    return table


def brute_force_margin(Z: Array) -> float:
    """Return the hard margin by trying every active set: that of the optimum is feasible and has mu >= 0."""
    best = 0.0
    for size in range(1, len(Z) + 1):
        for active in itertools.combinations(range(len(Z)), size):
            A = Z[list(active)]
            if np.linalg.matrix_rank(A) < size:
                continue
            mu = np.linalg.solve(A @ A.T, np.ones(size))
            h = A.T @ mu
            if mu.min() >= -1e-12 and (Z @ h).min() >= 1 - 1e-9:
                best = max(best, 1.0 / np.linalg.norm(h))
    return best


def tiny_machines(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Hard margins of at most six samples against every active set."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        n, d = int(rng.integers(1, 7)), int(rng.integers(2, 6))
        X = rng.integers(-3, 4, (n, d)).astype(float) if index % 2 else rng.standard_normal((n, d))
        y = np.sign(X @ rng.standard_normal(d))
        X, y = X[y != 0], y[y != 0]
        if not len(X):
            continue
        theirs = brute_force_margin(y[:, None] * X)
        for given in ({"X": X}, {"gram": X @ X.T}):
            c = kernel_svm(y=y, **given).certificate
            table.append({"problem": index, "difference": max(c.lower - theirs, theirs - c.upper, 0.0) / theirs})
    return table


def interpolants(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """K2 and ridge regression, one and several outputs, against the pseudo-inverse and the normal equations of h."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        n, d = SHAPES[index % 4]
        n -= index % 2
        X, Y = rng.standard_normal((n, d)), rng.standard_normal((n, 1 + 2 * (index % 2)))
        ridge = 0.0 if index % 3 else 10.0 ** rng.uniform(-3, 1)
        if ridge:
            theirs = np.linalg.solve(X.T @ X / n + ridge * np.eye(d), X.T @ Y / n)
        else:
            theirs = np.linalg.pinv(X) @ Y
        for given in ({"X": X}, {"gram": X @ X.T}):
            found = kernel_interpolant(y=Y, ridge=ridge, **given)
            h = found.w.T if found.w is not None else X.T @ found.coefficients
            row = {"problem": index, "ridge": ridge, "n": n, "d": d, "distance": found.distance_bound / found.norm}
            table.append(row | {"difference": float(np.linalg.norm(h - theirs) / np.linalg.norm(theirs))})
    return table


def resealed(certificate: Any, **changed: Any) -> Any:
    """Return a certificate with changed fields and the digest that a forger would give it."""
    forged = dataclasses.replace(certificate, **changed)
    names = [f.name for f in dataclasses.fields(forged) if f.name != "digest"]
    kind = "interpolant" if hasattr(forged, "independent") else "kernel machine"
    return dataclasses.replace(forged, digest=digest(kind, **{name: getattr(forged, name) for name in names}))


def tampered(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Certificates and data changed by 1e-6 relative or more: whether `verify` rejects each, and accepts the original.

    Even rows keep the old digest, odd ones that change a bound have the digest of a forger.
    """
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        X, y = random_problem(rng, 3 * index)
        gram, soft, k2 = index % 2 == 1, index % 3 == 1, index % 5 == 0
        given = {"gram": X @ X.T} if gram else {"X": X}
        found = kernel_interpolant(y=y, **given) if k2 else kernel_svm(y=y, C=1.0 if soft else None, **given)
        data, c = found.data.values, found.certificate
        numbers = ["distance_bound", "smallest"] if k2 else ["lower", "upper"]
        name = str(rng.choice(["data", "y", "predictor", "dual", *numbers]))
        factor = 1.0 + float(rng.choice([-1.0, 1.0])) * 10.0 ** rng.uniform(-6, 0)
        genuine = c.verify(data, y)
        forged, shown, labels = c, data.copy(), y.copy()
        if name == "data":
            place = tuple(int(rng.integers(s)) for s in data.shape)
            shown[place] = shown[place] * factor + (shown[place] == 0.0)
            if gram:
                shown[place[::-1]] = shown[place]
        elif name == "y":
            labels[int(rng.integers(len(y)))] *= -1.0 if not k2 else factor
        elif name in numbers:
            forged = resealed(c, **{name: getattr(c, name) * factor})
        else:
            vector = getattr(c, name).copy()
            k = int(np.abs(vector).argmax())
            vector.flat[k] *= factor
            forged = dataclasses.replace(c, **{name: vector})
        try:
            rejected = not forged.verify(shown, labels)
        except (CertificateError, ValueError):
            rejected = True
        table.append({"result": index, "changed": name, "by": factor - 1.0, "genuine": genuine, "rejected": rejected})
    return table


def brute_force_quasinorm(X: Array, y: Array, degree: int) -> tuple[float, set[float]]:
    """Return the largest margin over all vertices, and the margins of all vertices."""
    Z = y[:, None] * X
    margins = set()
    for size in range(1, min(Z.shape) + 1):
        for support in itertools.combinations(range(Z.shape[1]), size):
            for active in itertools.combinations(range(len(Z)), size):
                A = Z[np.ix_(active, support)]
                if abs(np.linalg.det(A)) < 1e-9:
                    continue
                w = np.zeros(Z.shape[1])
                w[list(support)] = np.linalg.solve(A, np.ones(size))
                if (Z @ w).min() >= 1 - 1e-9:
                    margins.add(float((np.abs(w) ** (2.0 / degree)).sum() ** (-degree / 2.0)))
    return max(margins), margins


def quasinorms(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Search with restarts against all vertices: the best margin relative to the global one, and whether a vertex's."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        n, d = int(rng.integers(2, 6)), int(rng.integers(2, 6))
        X = rng.standard_normal((n, d))
        y = np.sign(X @ rng.standard_normal(d))
        degree = 3 + index % 3
        best, every = brute_force_quasinorm(X, y, degree)
        found = quasinorm_margin(X, y, degree=degree, restarts=8, seed=index)
        nearest = min(abs(found.margin / value - 1.0) for value in every)
        row = {"problem": index, "n": n, "d": d, "degree": degree, "ratio": found.margin / best, "vertex": nearest}
        table.append(row | {"kkt": found.kkt.residual, "strict": found.strict_local, "bounded": best <= found.upper})
    return table


PARTS = {
    "machines": machines,
    "tiny machines": tiny_machines,
    "interpolants": interpolants,
    "tampered": tampered,
    "quasinorms": quasinorms,
}

if __name__ == "__main__":
    for title, part in PARTS.items():
        print(f"== {title}")
        for row in part(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
            print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
