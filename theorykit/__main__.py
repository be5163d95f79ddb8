"""``python -m theorykit`` is the command ``theorykit``."""

from __future__ import annotations

import sys

from theorykit.cli import main

if __name__ == "__main__":
    sys.exit(main())
