"""What a round decides: how far the members' drafts agree, and what they part over.

Drafts of different lengths cannot be compared fairly. Where all begin alike, that beginning is what
the round is about; where they part at once, their first words are. What a member drafted beyond
stays its draft for the next round, if the answer goes on as it drafted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fuser_service.core.candidates import DistinctCandidate, candidate_of, distinct_candidates
from fuser_service.core.types import Candidate, MemberName, Proposal, SegmentFinish
from fuser_service.core.words import common_ground, first_word

Drafts = Mapping[MemberName, Proposal]


def contested(drafts: Drafts) -> tuple[DistinctCandidate, ...]:
    """What is to be decided: the draft if there is but one, common ground, or the first words."""
    distinct = distinct_candidates(drafts)
    if len(distinct) < 2:  # noqa: PLR2004
        return distinct
    shared = common_ground([one.candidate.text for one in distinct])
    if shared:
        return distinct_candidates({m: head(d, shared) for m, d in drafts.items()})
    return distinct_candidates({m: opening(d) for m, d in drafts.items()})


def opening(draft: Proposal) -> Proposal:
    """The draft up to the end of its first word; a draft without words is the end of the answer.

    Whether the answer ends after its last word is a question of its own.
    """
    return head(draft, first_word(draft.text)) if draft.text else draft


def head(draft: Proposal, length: int) -> Proposal:
    """The first `length` characters of a draft, which goes on after them."""
    text = draft.text[:length]
    return Proposal(
        text, SegmentFinish.LENGTH, tokens_of(draft, text), context_tokens=draft.context_tokens
    )


def rest(draft: Proposal, committed: Candidate) -> Proposal | None:
    """What is left of a draft after `committed`; None if nothing is, or it goes on otherwise."""
    text = committed.text
    if committed.finished or not draft.text.startswith(text):
        return None
    text = draft.text[len(text) :]
    tokens = draft.token_count - tokens_of(draft, committed.text)
    left = replace(draft, text=text, token_count=max(tokens, min(1, len(text))), own_score=None)
    return left if candidate_of(left) else None


def common_head(drafts: Iterable[Proposal]) -> Proposal:
    """The draft if there is but one distinct; the common ground of several with one first word."""
    one, *others = drafts
    if all((other.text, other.finish) == (one.text, one.finish) for other in others):
        return one
    return head(one, common_ground([one.text, *(other.text for other in others)]))


def tokens_of(draft: Proposal, text: str) -> int:
    """How many of a draft's tokens its beginning `text` takes, in proportion; at least 1 if any.

    A member counts the tokens of whole drafts only.
    """
    share = round(draft.token_count * len(text) / max(1, len(draft.text)))
    return max(share, min(1, len(text)))
