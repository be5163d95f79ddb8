"""Proved spectral bounds against interval arithmetic of arbitrary precision (python-flint) and against LAPACK."""

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theorykit import InputError
from theorykit._numerics.spectral import (
    eigenvalue_bounds,
    largest_eigenvalue_upper,
    nuclear_norm_upper,
    operator_norm_upper,
    product_bounds,
    singular_bounds,
    smallest_eigenvalue_lower,
    smallest_singular_value_lower,
)

seeds = st.integers(0, 2**32 - 1)


def exact(matrix):
    """The doubles as they are, in arb."""
    return flint.arb_mat(matrix.shape[0], matrix.shape[1], [flint.arb(float(x)) for x in matrix.ravel()])


def enclosed_eigenvalues(matrix):
    """Enclosures of the eigenvalues of a symmetric matrix, ascending, or of A^T A for a pair (A^T, A)."""
    flint.ctx.prec = 400
    try:
        product = exact(matrix[0]) * exact(matrix[1]) if isinstance(matrix, tuple) else exact(matrix)
        found = flint.acb_mat(product).eig(multiple=True)
        return sorted((value.real for value in found), key=lambda value: float(value.mid()))
    finally:
        flint.ctx.prec = 53


def random_symmetric(rng, n, rank=None):
    factor = rng.standard_normal((n, rank or n)) * 10.0 ** rng.uniform(-4, 4, rank or n)
    product = factor @ np.diag(rng.choice([-1.0, 1.0], rank or n)) @ factor.T
    return (product + product.T) / 2


@given(seeds, st.integers(1, 7), st.booleans())
def test_every_eigenvalue_is_enclosed(seed, n, singular):
    rng = np.random.default_rng(seed)
    S = random_symmetric(rng, n, rank=max(1, n // 2) if singular else None)
    lower, upper = eigenvalue_bounds(S)
    largest = max(abs(lower).max(), abs(upper).max())
    assert (upper - lower).max() <= 4e-15 * (n + 2) * largest
    for low, value, high in zip(lower, enclosed_eigenvalues(S), upper, strict=True):
        assert flint.arb(float(low)) <= value <= flint.arb(float(high))
    assert smallest_eigenvalue_lower(S) == lower[0]
    assert largest_eigenvalue_upper(S) == upper[-1]


@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_norms_of_any_matrix_are_bounded(seed, p, q):
    A = np.random.default_rng(seed).standard_normal((p, q))
    values = [square.sqrt() for square in enclosed_eigenvalues((A, A.T) if p <= q else (A.T, A))]
    operator, nuclear = values[-1], sum(values)
    assert operator <= flint.arb(operator_norm_upper(A)) <= operator * (1 + 1e-13)
    assert nuclear <= flint.arb(nuclear_norm_upper(A)) <= nuclear * (1 + 1e-13)


@given(seeds, st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.5))
def test_smallest_singular_value_is_bounded(seed, p, q, error):
    A = np.random.default_rng(seed).standard_normal((p, q))
    bound = smallest_singular_value_lower(A, error)
    if p < q:
        assert bound == 0.0
        return
    values = [square.sqrt() for square in enclosed_eigenvalues((A.T, A))]
    assert flint.arb(bound) <= max(values[0] - flint.arb(error), flint.arb(0), key=float)
    assert bound >= float(values[0]) - error - 1e-7 * float(values[-1])


@given(seeds, st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_what_a_decomposition_misses_is_bounded(seed, p, q, symmetric):
    A = np.random.default_rng(seed).standard_normal((p, q))
    A = A @ A.T - np.eye(p) if symmetric else A
    A = 0.5 * (A + A.T) if symmetric else A
    found = singular_bounds(A)
    assert found.missed < 1e-12
    assert found.skew < 1e-13
    assert (np.diff(found.values) <= 0).all()
    flint.ctx.prec = 300
    try:
        rebuilt = exact(found.U) * exact(np.diag(found.values)) * exact(found.V).transpose()
        missing = exact(A) - rebuilt
        assert sum(entry**2 for entry in missing.entries()).sqrt() <= flint.arb(found.missed)
        for Q in (found.U, found.V):
            defect = exact(Q).transpose() * exact(Q) - exact(np.eye(Q.shape[1]))
            assert sum(entry**2 for entry in defect.entries()).sqrt() <= flint.arb(found.skew)
    finally:
        flint.ctx.prec = 53


@given(seeds, st.sampled_from([1, 3, 40, 300]))
def test_products_are_enclosed(seed, n):
    rng = np.random.default_rng(seed)
    A, B = rng.uniform(-1, 1, (3, n)) * 10.0 ** rng.uniform(-6, 0, (3, n)), rng.uniform(-1, 1, (n, 2))
    middle, radius = product_bounds(A, B)
    assert radius.max() <= 1e-15 * max(1.0, abs(middle).max())
    flint.ctx.prec = 300
    try:
        product = exact(A) * exact(B)
        for i in range(3):
            for j in range(2):
                assert abs(product[i, j] - flint.arb(middle[i, j])) <= flint.arb(radius[i, j])
    finally:
        flint.ctx.prec = 53


@pytest.mark.parametrize("exponent", [-1000, -500, 0, 500, 1000])
def test_powers_of_two_come_out_exactly(exponent):
    A = np.random.default_rng(0).standard_normal((8, 5))
    factor = 2.0**exponent
    assert operator_norm_upper(factor * A) == factor * operator_norm_upper(A)
    assert nuclear_norm_upper(factor * A) == factor * nuclear_norm_upper(A)


@pytest.mark.parametrize("n", [97, 200])
def test_bounds_are_tight_at_the_sizes_of_the_experiments(n):
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, n))
    singular = np.linalg.svd(A, compute_uv=False)
    assert 0 <= operator_norm_upper(A) / singular[0] - 1 + 1e-14 < 2e-13
    assert 0 <= nuclear_norm_upper(A) / singular.sum() - 1 + 1e-14 < 2e-13
    S = A + A.T
    lower, upper = eigenvalue_bounds(S)
    assert (upper - lower).max() < 4e-13 * upper[-1]


def test_zero_and_one_entry():
    assert operator_norm_upper(np.zeros((3, 2))) == nuclear_norm_upper(np.zeros((2, 2))) == 0.0
    assert eigenvalue_bounds(np.array([[-3.0]]))[0][0] <= -3.0
    with pytest.raises(InputError, match="symmetric"):
        eigenvalue_bounds(np.array([[0.0, 1.0], [2.0, 0.0]]))
