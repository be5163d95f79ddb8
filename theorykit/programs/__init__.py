"""Convex programs with certificates: margins and interpolation in every norm, nuclear norm, refutations, KKT."""

from theorykit._numerics.errors import InconsistentError
from theorykit.programs._curvature import Curvature
from theorykit.programs._redundancy import verify_inconsistency
from theorykit.programs._sealed import CertificateError
from theorykit.programs._separability import verify_farkas
from theorykit.programs._statement import SolverError
from theorykit.programs.certificate import Certificate, certify
from theorykit.programs.factorisation import FactorisationPoint, factorisation_point
from theorykit.programs.interpolant import InterpolantCertificate, KernelInterpolant, kernel_interpolant
from theorykit.programs.interpolation import MinNorm, NormCertificate, certify_norm, min_norm
from theorykit.programs.kernel_certificate import KernelCertificate
from theorykit.programs.kkt import KKT, interpolation_kkt_residuals, kkt_residuals, rich_kkt
from theorykit.programs.margin import MaxMargin, max_margin
from theorykit.programs.nuclear import (
    MinNuclearNorm,
    NuclearCertificate,
    min_nuclear_norm,
    nuclear_regularised,
)
from theorykit.programs.quasinorm import QuasinormMargin, quasinorm_margin
from theorykit.programs.svm import KernelSVM, kernel_svm

__all__ = [
    "KKT",
    "Certificate",
    "CertificateError",
    "Curvature",
    "FactorisationPoint",
    "InconsistentError",
    "InterpolantCertificate",
    "KernelCertificate",
    "KernelInterpolant",
    "KernelSVM",
    "MaxMargin",
    "MinNorm",
    "MinNuclearNorm",
    "NormCertificate",
    "NuclearCertificate",
    "QuasinormMargin",
    "SolverError",
    "certify",
    "certify_norm",
    "factorisation_point",
    "interpolation_kkt_residuals",
    "kernel_interpolant",
    "kernel_svm",
    "kkt_residuals",
    "max_margin",
    "min_norm",
    "min_nuclear_norm",
    "nuclear_regularised",
    "quasinorm_margin",
    "rich_kkt",
    "verify_farkas",
    "verify_inconsistency",
]
