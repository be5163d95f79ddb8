"""The signatures of the compiled dual reduction: new data, losses or shapes never recompile its integrator.

The right-hand side evaluates several states at once, because an implicit method has several stages and a large data
matrix is better read once for all of them.
"""

from __future__ import annotations

from numba import boolean, float64, int8, int64, types, void

MATRIX, VECTOR, SMALL, INTEGERS = float64[:, ::1], float64[::1], int8[:, ::1], int64[::1]

PACK = types.Tuple((MATRIX, SMALL, MATRIX, MATRIX, MATRIX, VECTOR, MATRIX, VECTOR, INTEGERS))
"""What a right-hand side knows: features (n, d), the same as int8 (or empty), basis (r, d), lift (n, r), Gram (n, n),
targets (n,), anchors (4, d), hyper-parameters, integers. Each model says what it keeps there."""

RHS = void(VECTOR, MATRIX, PACK, MATRIX)
"""(times (k,), states (k, r), pack, out (k, r)): write d(state)/d(clock) at each of the k times."""

JACOBIAN = void(float64, VECTOR, PACK, MATRIX)
"""(time, state (r,), pack, out (r, r)): write the Jacobian of the right-hand side at one time."""

MONITOR = boolean(float64, VECTOR, PACK)
"""(time, state (r,), pack) -> whether the segment should end at this accepted step (to change the frame)."""
