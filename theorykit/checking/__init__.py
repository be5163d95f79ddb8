"""From claims to verdicts: what a check is, how it is judged, and the runner.

`verify` runs checks; `Claim` is what a user subclasses to add one; `verdict` is the only module that judges.
"""

from theorykit.checking.claim import Assumption, Claim, Control, Instance, Measurement, Source, Tools
from theorykit.checking.discover import Discovery, discover
from theorykit.checking.expansion import Expansion, Fit
from theorykit.checking.result import ClaimResult, ControlResult, Rung, VerificationResult
from theorykit.checking.runner import verify

__all__ = [
    "Assumption",
    "Claim",
    "ClaimResult",
    "Control",
    "ControlResult",
    "Discovery",
    "Expansion",
    "Fit",
    "Instance",
    "Measurement",
    "Rung",
    "Source",
    "Tools",
    "VerificationResult",
    "discover",
    "verify",
]
