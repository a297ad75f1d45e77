"""`python -m deploy.monitoring.alerts --values FILE`: the rules with other thresholds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from deploy.monitoring.alerts import plain, values


def main() -> int:
    """Prints the file of rules."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.monitoring.alerts",
        description="Prints rules for Prometheus, with the chart's thresholds or with others.",
    )
    parser.add_argument(
        "--values",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML with keys of monitoring.rules in the chart's values; may be given again",
    )
    files: list[Path] = parser.parse_args().values
    try:
        overrides = [yaml.safe_load(file.read_text()) or {} for file in files]
        sys.stdout.write(plain.text(values.read(*overrides)))
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
