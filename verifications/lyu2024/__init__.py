"""Lyu et al. 2024 (arXiv:2311.18817)."""
