"""What the theorems predict: scales, normalisers, windows and directions (formulas only, no simulation)."""

from theorykit.predictors.dichotomy import (
    kernel_direction,
    log_normaliser,
    log_normaliser_printed,
    transition_time,
    window,
)

__all__ = ["kernel_direction", "log_normaliser", "log_normaliser_printed", "transition_time", "window"]
