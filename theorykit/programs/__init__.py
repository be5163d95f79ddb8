"""Convex programs with certificates: margins and interpolation in every norm, exact refutations, KKT residuals."""

from theorykit.programs._redundancy import verify_inconsistency
from theorykit.programs._sealed import CertificateError
from theorykit.programs._separability import verify_farkas
from theorykit.programs._statement import SolverError
from theorykit.programs.certificate import Certificate, certify
from theorykit.programs.interpolation import MinNorm, NormCertificate, certify_norm, min_norm
from theorykit.programs.kkt import KKT, kkt_residuals
from theorykit.programs.margin import MaxMargin, max_margin

__all__ = [
    "KKT",
    "Certificate",
    "CertificateError",
    "MaxMargin",
    "MinNorm",
    "NormCertificate",
    "SolverError",
    "certify",
    "certify_norm",
    "kkt_residuals",
    "max_margin",
    "min_norm",
    "verify_farkas",
    "verify_inconsistency",
]
