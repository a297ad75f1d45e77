"""`python -m specfuse.cli` is `specfuse`."""

from __future__ import annotations

import sys

from specfuse.cli.app import main

sys.exit(main())
