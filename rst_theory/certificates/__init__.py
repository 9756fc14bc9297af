"""Worst cases computed by semidefinite programming, over the whole tree of trials."""

from rst_theory.certificates.beside import certify_bound, class_of
from rst_theory.certificates.certificate import METRICS, Certificate, certify
from rst_theory.certificates.classes import CLASSES
from rst_theory.certificates.interpolant import Interpolant
from rst_theory.certificates.potential import PotentialCertificate, certify_by_potential
from rst_theory.certificates.program import CertificateError, Residuals

__all__ = [
    "CLASSES",
    "METRICS",
    "Certificate",
    "CertificateError",
    "Interpolant",
    "PotentialCertificate",
    "Residuals",
    "certify",
    "certify_bound",
    "certify_by_potential",
    "class_of",
]
