"""Our nuclear-norm programs against CVXPY's solvers, on random instances; and tampering with the certificates.

python tests/oracle/nuclear_agreement.py 200
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit.programs import CertificateError, MinNuclearNorm, SolverError, min_nuclear_norm, nuclear_regularised

Array = NDArray[np.float64]
KINDS = (
    "entries",
    "symmetric entries",
    "regularised",
    "regularised symmetric",
    "measurements",
    "symmetric measurements",
)


def random_problem(
    rng: np.random.Generator, index: int
) -> tuple[str, Array | NDArray[np.int64], Array, dict[str, Any]]:
    """Return kind, observed, values and keywords; the kinds take turns; ranks and masks vary."""
    kind = KINDS[index % len(KINDS)]
    p, q = (int(size) for size in rng.integers(2, 9, 2))
    symmetric = "symmetric" in kind
    q = p if symmetric else q
    if "measurements" in kind:
        m = int(rng.integers(1, 1 + (p * (p + 1) // 2 if symmetric else p * q) // 2))
        A = rng.standard_normal((m, p, q))
        A = A + A.transpose(0, 2, 1) if symmetric else A
        return kind, A, rng.standard_normal(m), {"symmetric": symmetric}
    rank = int(rng.integers(1, 4))
    left, right = rng.standard_normal((p, rank)), rng.standard_normal((q, rank))
    W = left @ (np.diag(rng.choice([-1.0, 1.0], rank)) @ left.T if symmetric else right.T)
    W = 0.5 * (W + W.T) if symmetric else W
    chosen = rng.random((p, q)) < rng.uniform(0.2, 0.9)
    if index % 3 == 0:
        chosen[int(rng.integers(p))] = False
    chosen.flat[int(rng.integers(p * q))] = True
    i, j = np.nonzero(chosen)
    keywords: dict[str, Any] = {"shape": (p, q), "symmetric": symmetric}
    if "regularised" in kind:
        keywords["weight_decay"] = float(10.0 ** rng.uniform(-3, 0))
    return kind, np.stack((i, j), axis=1), W[i, j], keywords


def solve(observed: Any, values: Any, keywords: dict[str, Any], solver: str | None = None) -> MinNuclearNorm:
    """Call the function that the keywords are for."""
    function = nuclear_regularised if "weight_decay" in keywords else min_nuclear_norm
    return function(observed, values, solver=solver, **keywords)


def run(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per problem: kind, size, our certified gap, and how far each peer's interval lies from ours.

    ``miss`` is the distance between our interval and theirs, 0 where they meet (both are proofs: they must);
    ``difference`` is the relative difference of the values; "none" where the peer did not answer "optimal".
    """
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        kind, observed, values, keywords = random_problem(rng, index)
        ours = solve(observed, values, keywords).certificate
        row = {"problem": index, "kind": kind, "shape": ours.W.shape, "m": len(values), "gap": ours.gap}
        for solver in ("CLARABEL", "SCS"):
            try:
                theirs = solve(observed, values, keywords, solver).certificate
            except SolverError:
                row |= {f"{solver} difference": None, f"{solver} miss": 0.0}
                continue
            miss = max(0.0, ours.lower - theirs.upper, theirs.lower - ours.upper)
            difference = abs(theirs.upper - ours.upper) / ours.upper if ours.upper else 0.0
            row |= {f"{solver} difference": difference, f"{solver} miss": miss}
        table.append(row)
    return table


def tampered(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Change data, arrays or bounds of true certificates by 1e-6 relative or more; return one row each."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        kind, observed, values, keywords = random_problem(rng, index)
        if not np.any(values):
            continue
        certificate = solve(observed, values, keywords).certificate
        true = certificate.verify(observed, values)
        what = ("values", "W", "dual", "lower", "upper")[int(rng.integers(5))]
        change = float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-6, 0))
        if what == "values":
            changed = values.copy()
            place = int(rng.integers(len(changed)))
            changed[place] = changed[place] * (1.0 + change) if changed[place] else change
            rejected = _rejects(certificate, observed, changed)
        else:
            old = getattr(certificate, what)
            new = old * (1.0 + change) if np.ndim(old) == 0 and old else None
            if new is None:
                new = np.array(old, dtype=np.float64)
                place = int(rng.integers(new.size))
                new.flat[place] = new.flat[place] * (1.0 + change) if new.flat[place] else change
                new = new if np.ndim(old) else float(new)
            rejected = _rejects(dataclasses.replace(certificate, **{what: new}), observed, values)
        table.append(
            {"problem": index, "kind": kind, "what": what, "change": change, "true": true, "rejected": rejected}
        )
    return table


def _rejects(certificate: Any, observed: Any, values: Any) -> bool:
    """Whether it does not verify: stale data that contradict one another cannot even be stated."""
    try:
        certificate.verify(observed, values)
    except (CertificateError, ValueError):
        return True
    return False


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rows = run(number)
    for row in rows:
        print(row)
    print("largest gap", max(row["gap"] for row in rows), "largest miss", max(row["CLARABEL miss"] for row in rows))
    forged = tampered(number)
    print(sum(row["rejected"] for row in forged), "of", len(forged), "tampered certificates rejected")
