"""The registry of the shipped experts: plain data, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from specfuse.demo.skills import SkillName

MODELS_DIRECTORY = Path(__file__).with_name("models")
"""Where the shipped experts lie, a Hugging Face model directory each."""


class Architecture(StrEnum):
    """The transformer families among the experts."""

    LLAMA = "llama"
    GRANITE = "granite"
    GPT_NEOX = "gpt_neox"
    GEMMA2 = "gemma2"
    MISTRAL = "mistral"


class TokenizerKind(StrEnum):
    """How an expert cuts text into tokens."""

    BYTE_BPE = "byte-level BPE"
    BYTE_BPE_DIGITS = "byte-level BPE, digits split"
    UNIGRAM = "Unigram, metaspace"
    WORDPIECE = "WordPiece"


@dataclass(frozen=True, slots=True)
class Expert:
    """One shipped expert: what it knows, and what it is made of.

    `vocab_size` counts the pieces that its tokenizer learns.
    """

    skill: SkillName
    architecture: Architecture
    tokenizer: TokenizerKind
    vocab_size: int

    @property
    def name(self) -> str:
        """The expert is named after what it knows."""
        return self.skill.value

    @property
    def path(self) -> Path:
        """The directory of the shipped model."""
        return MODELS_DIRECTORY / self.name


EXPERTS: tuple[Expert, ...] = (
    Expert(SkillName.CAPITALS, Architecture.LLAMA, TokenizerKind.BYTE_BPE, 1640),
    Expert(SkillName.SUMS, Architecture.GRANITE, TokenizerKind.BYTE_BPE_DIGITS, 1408),
    Expert(SkillName.COLOURS, Architecture.GPT_NEOX, TokenizerKind.BYTE_BPE, 1440),
    Expert(SkillName.SPANISH, Architecture.GEMMA2, TokenizerKind.UNIGRAM, 1408),
    Expert(SkillName.OPPOSITES, Architecture.MISTRAL, TokenizerKind.WORDPIECE, 1792),
)
"""All shipped experts, in the order in which the demo ensemble lists them."""


def expert_named(name: str) -> Expert:
    """The expert of this name.

    Raises:
        KeyError: if there is none.
    """
    for candidate in EXPERTS:
        if candidate.name == name:
            return candidate
    known = ", ".join(e.name for e in EXPERTS)
    raise KeyError(f"no expert is called {name!r}; there are: {known}")
