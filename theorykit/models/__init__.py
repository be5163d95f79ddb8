"""Homogeneous models: outputs, products with the Jacobian, kernels, difference quotients, invariants, starts.

What every model offers is written down in `HomogeneousModel`.
"""

from theorykit.models.activations import Activation
from theorykit.models.cnn import CNN
from theorykit.models.diagonal import DiagonalNet
from theorykit.models.difference import Difference
from theorykit.models.homogeneity import HomogeneityReport, check_homogeneous
from theorykit.models.linear import Linear
from theorykit.models.matrix_factorization import MatrixFactorization
from theorykit.models.mlp import MLP
from theorykit.models.protocol import HomogeneousModel, Inputs, Invariants, Kinked, require_zero_output
from theorykit.models.user import UserModel

__all__ = [
    "CNN",
    "MLP",
    "Activation",
    "DiagonalNet",
    "Difference",
    "HomogeneityReport",
    "HomogeneousModel",
    "Inputs",
    "Invariants",
    "Kinked",
    "Linear",
    "MatrixFactorization",
    "UserModel",
    "check_homogeneous",
    "require_zero_output",
]
