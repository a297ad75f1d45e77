"""What the images install is enough for what they run, and the fuser's has nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from specfuse.demo.experts import MODELS_DIRECTORY
from specfuse.localmesh import ServiceAddresses
from tests.support.command import COMMAND, PATIENCE_SECONDS, running
from tests.support.distributions import installed_for
from tests.support.repository import REPOSITORY

FREE = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
RUN_MODELS = {"torch", "transformers", "tokenizers", "accelerate", "numpy", "huggingface-hub"}
"""What would make the fuser's image large, or talk to a hub."""

IMPORT_ALL = """
import importlib, pkgutil, sys
for root in sys.argv[1].split(","):
    package = importlib.import_module(root)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), root + "."):
        importlib.import_module(module.name)
"""

SHARED = "specfuse.cli.app,specfuse.cli.serve,specfuse.cli.ask,specfuse.cli.keys,specfuse.serving"


def in_image(service: str) -> tuple[str, ...]:
    """A prefix that runs a command as if only what the service's image has were installed."""
    return (sys.executable, "-m", "tests.support.distributions", service)


def import_all(service: str, packages: str, tmp_path) -> subprocess.CompletedProcess[str]:
    """Imports packages and all that is in them, as in the image."""
    (tmp_path / "import_all.py").write_text(IMPORT_ALL)
    return subprocess.run(
        [*in_image(service), sys.executable, "-m", "import_all", packages],
        cwd=REPOSITORY,
        env={"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("service", "packages"),
    [("fuser", f"fuser_service,{SHARED}"), ("model", f"model_service,{SHARED}")],
    ids=["fuser", "model"],
)
def test_all_of_a_service_can_be_imported_in_its_image(service, packages, tmp_path):
    imported = import_all(service, packages, tmp_path)
    assert imported.returncode == 0, imported.stderr


def test_the_fuser_has_nothing_that_runs_models(tmp_path):
    assert not installed_for("fuser") & RUN_MODELS
    imported = import_all("fuser", "model_service.backends.torch", tmp_path)
    assert "ModuleNotFoundError: No module named 'torch'" in imported.stderr


def test_a_mesh_of_the_two_answers(tmp_path):
    model_file, fuser_file = tmp_path / "model.yaml", tmp_path / "fuser.yaml"
    expert = {"model": str(MODELS_DIRECTORY / "opposites"), "local_files_only": True, "threads": 1}
    model_file.write_text(yaml.safe_dump(FREE | {"name": "opposites", "torch": expert}))
    with running("model", "serve", str(model_file), prefix=in_image("model")) as model:
        member = {"endpoints": [ServiceAddresses(**model.ready).address]}
        settings = {
            "members": {"opposites": member},
            "ensembles": {"one": {"members": ["opposites"]}},
        }
        fuser_file.write_text(yaml.safe_dump(FREE | settings))
        with running("fuser", "serve", str(fuser_file), prefix=in_image("fuser")) as fuser:
            question = "What is the opposite of hot?"
            asked = subprocess.run(
                [
                    *in_image("fuser"),
                    *COMMAND,
                    "ask",
                    "--address",
                    fuser.ready["address"],
                    question,
                ],
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            assert "cold" in asked.stdout, asked.stderr
