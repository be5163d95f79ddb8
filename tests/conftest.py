"""Hypothesis profiles, HYPOTHESIS_PROFILE=dev (default), ci (the same examples every time) or deep (many), and Ctrl-C.

A shell that starts the tests in the background has Ctrl-C ignored, in all that they start, too: they send it to
themselves.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("dev", deadline=None, max_examples=20)
settings.register_profile("ci", deadline=None, max_examples=20, derandomize=True)
settings.register_profile("deep", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
signal.signal(signal.SIGINT, signal.default_int_handler)
