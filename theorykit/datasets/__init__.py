"""Data: seeded generators and the user's own arrays, all as one frozen `Dataset`.

Examples
--------
>>> from theorykit import datasets
>>> data = datasets.sparse_sign(n=8, d=100, k=3, n_test=50, seed=0)
>>> data.n, data.d, data.test.n
(8, 100, 50)
"""

from theorykit.datasets.arithmetic import modular
from theorykit.datasets.completion import matrix_completion, matrix_entries
from theorykit.datasets.dataset import Dataset, TestSet
from theorykit.datasets.generators import digits, separated_gaussian, sparse_parity, sparse_sign, xor_cluster

__all__ = [
    "Dataset",
    "TestSet",
    "digits",
    "matrix_completion",
    "matrix_entries",
    "modular",
    "separated_gaussian",
    "sparse_parity",
    "sparse_sign",
    "xor_cluster",
]
