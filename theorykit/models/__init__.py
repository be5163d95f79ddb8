"""Homogeneous models: what they output, their features at initialisation, their degree and directions of start."""

from theorykit.models.diagonal import DiagonalNet

__all__ = ["DiagonalNet"]
