"""What `docs/extending.md` shows works: one new folder and one entry, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY
from tests.support.scratch_copy import ScratchCopy

NEW_FILE = re.compile(
    r"^`(?P<file>[\w/]+\.py)`(?:(?!```).)*?```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)
ENTRY = re.compile(r"```diff\n(?P<diff>.*?)^```", re.MULTILINE | re.DOTALL)

USE_BACKEND = """
import asyncio
from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from model_service.backends.registry import open_backend
from model_service.metrics import ModelMetrics
from model_service.ports import BackendHost
from model_service.settings import Settings
from prometheus_client import CollectorRegistry
from specfuse.deadline import Deadline

FILE = '''
name: parrot
backend: echo
echo: {probability: 0.25}
'''

async def main():
    settings = Settings.parse(FILE, source="model.yaml")
    host = BackendHost(settings.name, ModelMetrics(settings.name, CollectorRegistry()))
    backend = await open_backend(settings.backend, settings.chosen, host)
    never = Deadline.never()
    proposal = await backend.propose(ProposeRequest(Context("Hello", ("He",)), 2), never)
    scores = await backend.score(ScoreRequest(Context("Hello"), (Candidate("ab", False),)), never)
    print(backend.model.name, repr(proposal.text), scores.scores[0].probability_mean)

asyncio.run(main())
"""

USE_DISCOVERY = """
import asyncio, sys
from fuser_service.settings.settings import Settings
from pathlib import Path

async def main():
    path = Path("replicas")
    path.write_text("llama-0:50051\\n")
    member = {"file": {"path": str(path), "every_seconds": 0.01}}
    document = {"members": {"llama": member}, "ensembles": {"one": {"members": ["llama"]}}}
    import json
    settings = Settings.parse(json.dumps(document), source="fuser.yaml")
    watched = settings.members["llama"].open().watch()
    print([one.address for one in await anext(watched)])
    path.write_text("llama-0:50051\\nllama-1:50051\\n")
    print([one.address for one in await anext(watched)])

asyncio.run(main())
"""

BOTH_SAID = """
from fuser_service.settings.settings import Settings
import json
member = {"file": {"path": "x"}, "endpoints": ["a:1"]}
document = {"members": {"llama": member}, "ensembles": {"one": {"members": ["llama"]}}}
Settings.parse(json.dumps(document), source="fuser.yaml")
"""


def section(title: str) -> str:
    """A section of the page."""
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def add_folder(copy: ScratchCopy, text: str) -> set[str]:
    """Writes every new file that the text shows; returns their folders."""
    found = list(NEW_FILE.finditer(text))
    for one in found:
        copy.append(one["file"], one["code"])
    return {one["file"].rpartition("/")[0] for one in found}


def add_entry(copy: ScratchCopy, text: str, registry: str) -> None:
    """Makes the changes to the registry that the text shows."""
    assert registry in text
    for one in ENTRY.finditer(text):
        lines = one["diff"].splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] == " ")
        copy.replace(registry, before, "".join(line[1:] for line in lines))


@pytest.fixture
def copy(tmp_path: Path) -> ScratchCopy:
    return ScratchCopy(tmp_path / "copy")


def test_a_backend_is_a_folder_and_an_entry(copy: ScratchCopy) -> None:
    text = section("A backend")
    assert add_folder(copy, text) == {"model_service/backends/echo"}
    add_entry(copy, text, "model_service/backends/registry.py")
    used = copy.python(USE_BACKEND)
    assert used.stdout == "parrot 'll' 0.25\n", used.stderr
    linted = copy.lint_imports()
    assert linted.returncode == 0, linted.stdout
    checked = copy.mypy("model_service/backends/echo", "model_service/backends/registry.py")
    assert checked.returncode == 0, checked.stdout


def test_a_discovery_is_a_folder_and_an_entry(copy: ScratchCopy) -> None:
    text = section("A discovery")
    assert add_folder(copy, text) == {"fuser_service/mesh/discovery/file"}
    add_entry(copy, text, "fuser_service/mesh/discovery/registry.py")
    used = copy.python(USE_DISCOVERY)
    first, second = "['llama-0:50051']", "['llama-0:50051', 'llama-1:50051']"
    assert used.stdout == f"{first}\n{second}\n", used.stderr
    refused = copy.python(BOTH_SAID)
    assert "file: contradicts endpoints; drop one" in refused.stderr
    linted = copy.lint_imports()
    assert linted.returncode == 0, linted.stdout
    checked = copy.mypy("fuser_service/mesh/discovery")
    assert checked.returncode == 0, checked.stdout
