"""Finding a real Helm, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.helm.generate import helm


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Helm; the folder is the only one on its path."""
    monkeypatch.delenv("HELM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(helm, "INSTALLED", tmp_path / "installed")
    return tmp_path


def program(path: Path, does: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return path


def test_without_helm_the_remedy_is_told(nowhere: Path) -> None:
    assert helm.executable() is None
    with pytest.raises(helm.HelmFailed, match="run make helm, or set HELM"):
        helm.run("version")


def test_the_environment_s_counts_before_the_fetched_one_and_that_before_the_system_s(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = program(nowhere / "helm", "true")
    assert helm.executable() == system
    fetched = program(nowhere / "installed" / "helm", "true")
    assert helm.executable() == fetched
    named = program(nowhere / "named", "true")
    monkeypatch.setenv("HELM", str(named))
    assert helm.executable() == named


def test_it_sees_nothing_of_the_environment_but_its_path(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELM", str(program(nowhere / "named", 'echo "$HELM_NAMESPACE|$PATH"')))
    monkeypatch.setenv("HELM_NAMESPACE", "somewhere")
    assert helm.run() == f"|{nowhere}\n"


def test_what_it_says_of_a_failure_is_told(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM", str(program(nowhere / "named", "echo no such chart >&2; exit 1")))
    with pytest.raises(helm.HelmFailed, match=r"^no such chart$"):
        helm.run("template")
