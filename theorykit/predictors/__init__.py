"""What the theorems predict: scales, normalisers, windows, directions and bounds (formulas only, no simulation)."""

from theorykit.predictors.dichotomy import (
    kernel_direction,
    log_normaliser,
    log_normaliser_printed,
    transition_time,
    window,
)
from theorykit.predictors.early import (
    kernel_phase_end,
    log_displacement_ceiling,
    log_inverse_xlogx,
    log_loss_ceiling,
    log_loss_floor,
    log_loss_floor_printed,
)
from theorykit.predictors.generalisation import margin_error_bound, rademacher_bound
from theorykit.predictors.label_noise import label_noise_weights
from theorykit.predictors.radius import curvature_bound, feature_radius, output_bound
from theorykit.predictors.regression import (
    KernelBall,
    displacement_bound,
    earliest_exit,
    early_log_loss,
    early_loss_rate,
    kernel_ball,
    norm_bound,
    off_span_bound,
)

__all__ = [
    "KernelBall",
    "curvature_bound",
    "displacement_bound",
    "earliest_exit",
    "early_log_loss",
    "early_loss_rate",
    "feature_radius",
    "kernel_ball",
    "kernel_direction",
    "kernel_phase_end",
    "label_noise_weights",
    "log_displacement_ceiling",
    "log_inverse_xlogx",
    "log_loss_ceiling",
    "log_loss_floor",
    "log_loss_floor_printed",
    "log_normaliser",
    "log_normaliser_printed",
    "margin_error_bound",
    "norm_bound",
    "off_span_bound",
    "output_bound",
    "rademacher_bound",
    "transition_time",
    "window",
]
