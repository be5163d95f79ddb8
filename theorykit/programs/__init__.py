"""Convex programs with certificates: margins and interpolation in every norm, nuclear norm, refutations, KKT."""

from theorykit._numerics.errors import InconsistentError
from theorykit.programs._redundancy import verify_inconsistency
from theorykit.programs._sealed import CertificateError
from theorykit.programs._separability import verify_farkas
from theorykit.programs._statement import SolverError
from theorykit.programs.certificate import Certificate, certify
from theorykit.programs.factorisation import FactorisationPoint, factorisation_point
from theorykit.programs.interpolation import MinNorm, NormCertificate, certify_norm, min_norm
from theorykit.programs.kkt import KKT, kkt_residuals
from theorykit.programs.margin import MaxMargin, max_margin
from theorykit.programs.nuclear import (
    MinNuclearNorm,
    NuclearCertificate,
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
    "MinNorm",
    "MinNuclearNorm",
    "NormCertificate",
    "NuclearCertificate",
    "SolverError",
    "certify",
    "certify_norm",
    "factorisation_point",
    "kkt_residuals",
    "max_margin",
    "min_norm",
    "min_nuclear_norm",
    "nuclear_regularised",
    "verify_farkas",
    "verify_inconsistency",
]
