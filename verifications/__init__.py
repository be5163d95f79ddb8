"""Verification suites, one folder per paper."""
