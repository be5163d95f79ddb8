"""Convex programs with certificates: max-margin classifiers in l2 and l1, proofs of non-separability, KKT residuals."""

from theorykit.programs._separability import verify_farkas
from theorykit.programs._statement import SolverError
from theorykit.programs.certificate import Certificate, CertificateError, certify
from theorykit.programs.kkt import KKT, kkt_residuals
from theorykit.programs.margin import MaxMargin, max_margin

__all__ = [
    "KKT",
    "Certificate",
    "CertificateError",
    "MaxMargin",
    "SolverError",
    "certify",
    "kkt_residuals",
    "max_margin",
    "verify_farkas",
]
