"""Numeric proof that a checkpoint loaded here gives what its reference gave: ``zoo verify DIR``."""

from zoo.verification.report import Difference, Report
from zoo.verification.verify import verify

__all__ = ["Difference", "Report", "verify"]
