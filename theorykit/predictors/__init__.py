"""What the theorems predict: scales, normalisers, windows, directions and bounds (formulas only, no simulation)."""

from theorykit.predictors.dichotomy import (
    kernel_direction,
    log_normaliser,
    log_normaliser_printed,
    transition_time,
    window,
)
from theorykit.predictors.entropy import inverse_x_log_x, log_inverse_x_log_x
from theorykit.predictors.generalisation import margin_error_bound, rademacher_bound
from theorykit.predictors.label_noise import label_noise_weights

__all__ = [
    "inverse_x_log_x",
    "kernel_direction",
    "label_noise_weights",
    "log_inverse_x_log_x",
    "log_normaliser",
    "log_normaliser_printed",
    "margin_error_bound",
    "rademacher_bound",
    "transition_time",
    "window",
]
