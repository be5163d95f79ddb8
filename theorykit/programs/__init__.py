"""Convex programs with certificates: max-margin classifiers in l2 and l1, nuclear norm, KKT."""

from theorykit.programs._separability import verify_farkas
from theorykit.programs._statement import SolverError
from theorykit.programs.certificate import Certificate, CertificateError, certify
from theorykit.programs.factorisation import FactorisationPoint, factorisation_point
from theorykit.programs.kkt import KKT, kkt_residuals
from theorykit.programs.margin import MaxMargin, max_margin
from theorykit.programs.nuclear import (
    InconsistentError,
    MinNuclearNorm,
    NuclearCertificate,
    Uniqueness,
    min_nuclear_norm,
    nuclear_regularised,
)

__all__ = [
    "KKT",
    "Certificate",
    "CertificateError",
    "FactorisationPoint",
    "InconsistentError",
    "MaxMargin",
    "MinNuclearNorm",
    "NuclearCertificate",
    "SolverError",
    "Uniqueness",
    "certify",
    "factorisation_point",
    "kkt_residuals",
    "max_margin",
    "min_nuclear_norm",
    "nuclear_regularised",
    "verify_farkas",
]
