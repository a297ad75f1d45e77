"""Where a model's files are, and what is read of them besides weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from specfuse.errors import Misconfigured

READ: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "config.json",
    "generation_config.json",
)
"""All that is fetched for a tokenizer. None of it is a program that would be run."""

_MOST_CHARACTERS: Final = 300
"""Of what a library says is wrong: it may go on for pages."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model's files are: a directory, or an id on the hub.

    `key` is the setting that says so, as errors name it.
    """

    key: str
    model: str
    revision: str | None = None
    local_files_only: bool = False

    def directory(self) -> Path:
        """Where the files that are `READ` lie, fetched from the hub if the model is there.

        All are of one commit. With `local_files_only`, or while the hub cannot be reached, they are
        those that are in its cache.

        Raises:
            Misconfigured: there is no such directory.
            Exception: whatever the hub's client raises: see `as_misconfiguration`.
        """
        check_directory(self.key, self.model)
        if Path(self.model).is_dir():
            return Path(self.model)
        return self._fetched()

    def _fetched(self) -> Path:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 (heavy, and rarely needed)
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

        disable_progress_bars()
        return Path(
            snapshot_download(
                self.model,
                revision=self.revision,
                local_files_only=self.local_files_only,
                allow_patterns=list(READ),
            )
        )


def check_directory(key: str, model: str) -> None:
    """Only checks that the model's directory is there, before it is looked for on the hub.

    Raises:
        Misconfigured: `model` can only be a directory, and is not one.
    """
    is_path = model.startswith(("/", ".", "~")) or model.count("/") > 1
    if is_path and not Path(model).is_dir():
        raise Misconfigured(
            f"{key}: there is no directory {model}; give one that holds a model "
            "(config.json, weights, tokenizer.json), or the model's hub id, owner/name",
            model=model,
        )


@contextmanager
def as_misconfiguration(key: str, model: str) -> Iterator[None]:
    """Whatever malformed files raise becomes `Misconfigured`, which names the setting."""
    try:
        yield
    except Misconfigured:
        raise
    except Exception as error:  # malformed files can raise anything
        reason = " ".join(str(error).split())[:_MOST_CHARACTERS] or type(error).__name__
        raise Misconfigured(f"{key}: {model!r} cannot be loaded: {reason}") from error
