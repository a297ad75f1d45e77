"""What a query takes, counted while it runs and whatever becomes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fuser_service.fusion.ports import Rpc


@dataclass(slots=True)
class Effort:
    """Calls to members, made and avoided (of two per member and round), and tokens.

    `prompt_tokens` are those of the context that the query began with, a resumed answer's segments
    included, in the tokenizer of the first round's winner; 0 until that is known. `output_tokens`
    are those of the committed segments, each in its winner's tokenizer. `passes` are those through
    models: one for each token of a proposal, its end included, and one for each call to score.
    """

    made: Counter[Rpc] = field(default_factory=Counter)
    avoided: Counter[Rpc] = field(default_factory=Counter)
    prompt_tokens: int = 0
    output_tokens: int = 0
    passes: int = 0
