"""A module that notes in the file `NOTED` of the environment which process imports it.

Then it does what `IMPORTING` says: `fail`, start a `thread`, or `hang`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

NOTED, IMPORTING = "NOTED_IMPORTS", "WHILE_IMPORTING"

with Path(os.environ[NOTED]).open("a") as file:
    file.write(f"{os.getpid()}\n")

match os.environ.get(IMPORTING):
    case "fail":
        raise RuntimeError("as it was told")
    case "thread":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    case "hang":
        threading.Event().wait()
