"""From a directory, or a name on the hub, to a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import transformers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PretrainedConfig

from model_service.backends.text.tokenizer import SegmentTokenizer
from specfuse.errors import Misconfigured

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


_MOST_CHARACTERS: Final = 300
"""Of what transformers says is wrong: it may go on for pages."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model's files are: a directory, or an id on the hub.

    `key` is the setting that says so, as errors name it.
    """

    key: str
    model: str
    revision: str | None = None
    local_files_only: bool = False

    @property
    def source(self) -> dict[str, Any]:
        """What transformers is told besides the model."""
        return {"revision": self.revision, "local_files_only": self.local_files_only}


def load_tokenizer(files: ModelFiles) -> SegmentTokenizer:
    """The tokenizer of a model that runs elsewhere. Reads no weights, runs no code of the model's.

    Raises:
        Misconfigured: it cannot be found or loaded.
    """
    check_directory(files.key, files.model)
    with quietly(), as_misconfiguration(files.key, files.model):
        tokenizer = AutoTokenizer.from_pretrained(files.model, **files.source)
        ends = end_ids(_generation_ends(files), _config_ends(files))
    try:
        return SegmentTokenizer(cast("PreTrainedTokenizerFast", tokenizer), ends)
    except Misconfigured as error:
        raise Misconfigured(f"{files.key}: {files.model!r}: {error.message}") from error


def end_ids(*ends: int | list[int] | None) -> tuple[int, ...]:
    """The first of some `eos_token_id`s that says anything, as a tuple."""
    said = next((end for end in ends if end is not None), ())
    return (said,) if isinstance(said, int) else tuple(said)


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


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps transformers' progress bars and advice off the terminal while loading."""
    logging: Any = transformers.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _generation_ends(files: ModelFiles) -> int | list[int] | None:
    """What the model's generation settings end an answer at, where it has such a file."""
    try:
        generation = GenerationConfig.from_pretrained(files.model, **files.source)
    except OSError:  # a directory with a tokenizer only
        return None
    ends: int | list[int] | None = generation.eos_token_id
    return ends


def _config_ends(files: ModelFiles) -> int | list[int] | None:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(files.model, **files.source)
    except (OSError, ValueError):  # none, or of an architecture that transformers does not know
        return None
    ends: int | list[int] | None = config.get_text_config().eos_token_id
    return ends
