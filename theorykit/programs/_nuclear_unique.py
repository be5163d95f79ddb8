"""stub while drafting."""
from typing import NamedTuple, Any
class Uniqueness(NamedTuple):
    verdict: str
    reason: str
    other: Any = None
def uniqueness(data, c):
    return Uniqueness("unknown", "")
