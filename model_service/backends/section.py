"""What every backend's section of the settings file has besides its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from specfuse.config.settings_file import Problem
from specfuse.config.types import Section


class BackendSection(Section):
    """Settings of one backend. A backend overrides what differs."""

    extra: ClassVar[str] = "services"
    """What installs the packages it needs: `pip install "specfuse[EXTRA]"`."""
    packages: ClassVar[frozenset[str]] = frozenset()
    """Those packages, as they are imported, that no other part of SpecFuse needs."""

    def contradictions(self) -> Iterator[Problem]:
        """Values that are right one by one and wrong together; keys are relative to the section."""
        yield from ()

    @classmethod
    def located(cls, document: dict[str, Any], directory: Path) -> dict[str, Any]:
        """The section as a file says it, with paths relative to `directory` made absolute.

        Nothing in the document has been checked.
        """
        del directory
        return document

    @classmethod
    def sharing(cls, document: dict[str, Any], processors: int) -> dict[str, Any]:
        """The section as a file says it, for a model that shares its machine with others.

        `processors` is how many of the processors are for it. Nothing in the document has been
        checked.
        """
        del processors
        return document

    def forks(self) -> bool:
        """Whether a process that has imported the backend may be forked to run it."""
        return True
