"""Histogram bucket edges of both services: vLLM's, so that its dashboards and ours compare."""

from __future__ import annotations

from typing import Final

SHORT_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
"""Of one call, one phase, one wait, or a first segment: vLLM's time to first token."""

PER_TOKEN_SECONDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
"""Of one token, or one forward pass: vLLM's time per output token."""

REQUEST_SECONDS: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
"""Of a whole request: vLLM's end-to-end latency."""

COUNTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Of things: vLLM's 1-2-5 series."""

SEQUENCES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Of sequences in one forward pass."""

MEMBERS: Final = (1, 2, 3, 4, 5, 6, 8, 10, 16, 32, 64)
"""Of an ensemble's members."""
