"""From claims to verdicts: what a check is, how it is judged, and the runner.

`verify` runs checks; `Claim` is what a user subclasses to add one; `verdict` is the only module that judges.
"""

from theorykit.checking.claim import Claim, Source, Tools
from theorykit.checking.discover import Discovery, discover
from theorykit.checking.expansion import Expansion, Fit
from theorykit.checking.instance import Family, Instance, Trial
from theorykit.checking.measurement import Assumption, Control, Measurement, clopper_pearson
from theorykit.checking.result import ClaimResult, ControlResult, Rung, VerificationResult
from theorykit.checking.runner import judge_broken, verify
from theorykit.checking.store import default_store

__all__ = [
    "Assumption",
    "Claim",
    "ClaimResult",
    "Control",
    "ControlResult",
    "Discovery",
    "Expansion",
    "Family",
    "Fit",
    "Instance",
    "Measurement",
    "Rung",
    "Source",
    "Tools",
    "Trial",
    "VerificationResult",
    "clopper_pearson",
    "default_store",
    "discover",
    "judge_broken",
    "verify",
]
