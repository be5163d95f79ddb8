"""Programs whose answers are known in closed form, or with high probability: one table, for the tests and the evidence.

python tests/oracle/known_answers.py 20
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from theorykit.datasets import sparse_sign
from theorykit.programs import kernel_svm, max_margin, min_nuclear_norm


def completions(count: int, size: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per random integer matrix of rank 1 or 2, seen in many places and in few.

    ``recovered``: the optimum of many is the matrix, to the last bit, and proved to be the only one. ``refuted``: with
    few a proved upper bound lies below the nuclear norm of the matrix, so that it is no optimum.
    """
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        rank, symmetric = 1 + index % 2, index % 4 < 2
        left = rng.integers(-4, 5, (size, rank)).astype(np.float64)
        W = left @ (left if symmetric else rng.integers(-4, 5, (size, rank))).T
        row = {"problem": index, "rank": rank, "symmetric": symmetric, "seen": 0.7, "few": 0.08}
        many, few = (_seen(rng, W, symmetric, row[share]) for share in ("seen", "few"))
        row |= {"recovered": bool((many.W == W).all()) and many.uniqueness == "proved", "gap": many.certificate.gap}
        norm = float(np.linalg.svd(W, compute_uv=False).sum())
        table.append(row | {"refuted": few.certificate.upper < 0.999 * norm, "few gap": few.certificate.gap})
    return table


def _seen(rng: np.random.Generator, W: Any, symmetric: bool, share: float) -> Any:
    places = np.argwhere(rng.random(W.shape) < share)
    return min_nuclear_norm(places, W[places[:, 0], places[:, 1]], shape=W.shape, symmetric=symmetric)


def sparse_margins(count: int, n: int = 1500, d: int = 100, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per data set: the l1-margin of sparse signs against 1/k, which it is once n is large."""
    table = []
    for index in range(count):
        k = (3, 5)[index % 2]
        result = max_margin(sparse_sign(n=n, d=d, k=k, seed=seed + index), norm=1)
        off = max(1.0 / k - result.certificate.lower, result.certificate.upper - 1.0 / k) * k
        table.append({"problem": index, "n": n, "d": d, "k": k, "difference": off, "unique": result.uniqueness})
    return table


def orthonormal(count: int, n: int = 30, d: int = 80, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per set of orthonormal features: K1 is h = sum_i y_i phi_i, with the margin n**(-1/2)."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        X, y = np.linalg.qr(rng.standard_normal((d, n)))[0].T, rng.choice([-1.0, 1.0], n)
        machine = kernel_svm(X, y)
        assert machine.w is not None
        missed = float(np.linalg.norm(machine.w - y @ X))
        off = abs(machine.margin * np.sqrt(n) - 1.0)
        table.append(
            {
                "problem": index,
                "n": n,
                "difference": missed,
                "margin off": float(off),
                "distance bound": machine.distance_bound,
            }
        )
    return table


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for rows in (completions(number), sparse_margins(number), orthonormal(number)):
        for one in rows:
            print(one)
