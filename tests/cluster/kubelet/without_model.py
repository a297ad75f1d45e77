"""What the image `without-model` runs: the model service, but with a script in the model's place.

For pods that have accelerators in name only: `specfuse model serve FILE` as the chart has it, with
all settings of the file but the backend's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

_SCRIPT = {"lines": [{"answer": "There is no model here."}]}


def main() -> None:
    """Does not return."""
    *command, file = sys.argv[1:]
    settings = yaml.safe_load(Path(file).read_text())
    del settings[settings["backend"]]
    settings |= {"backend": "scripted", "scripted": _SCRIPT}
    changed = Path("/tmp/model.yaml")
    changed.write_text(yaml.safe_dump(settings))
    os.execvp("specfuse", ["specfuse", *command, str(changed)])


if __name__ == "__main__":
    main()
