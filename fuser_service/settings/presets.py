"""Named settings of an ensemble: ours, and those of the published methods.

An ensemble says `preset: NAME`; its own settings take precedence over the preset's. A preset says
only what differs from the defaults in `.settings`, so `default` says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final


class Preset(StrEnum):
    """The presets, each with where its values come from."""

    DEFAULT = "default"
    """Ours: every value is the default in `fuser_service.settings.settings`.

    A vote on the words in which drafts differ, and members that watch: who does not win goes on
    judging, at a pass a draft, and is heard when confidently of another mind. Chosen by measurement
    (docs/results/watching.md) and re-measured with every evaluation. Segments of 10 tokens and
    uniform weights are SpecFuse's.
    """
    SEGMENTS = "segments"
    """Ours: a vote on whole segments, and members that leave when they keep losing.

    Fewer calls than the default, for more passes and more wrong answers. `statistic`, and `exit`
    with its recall, were chosen by measurement on compound questions
    (docs/results/exit-tuning.md). Self-judgement is SpecFuse's.
    """
    SPECFUSE_PAPER = "specfuse-paper"
    """SpecFuse, arXiv 2412.07380 v2.

    From the paper: segments of 10 tokens, scored by the mean probability of their tokens; all
    members' scores count alike, each one's of its own segment included; a member leaves for good
    when its softmax share falls below delta = 0.5 / n. Not in any text we could read: the exact
    temperature of that softmax, so the formula and its `tau0` are ours. At our default `tau0`, exit
    without recall costs many answers; at this one it costs few (docs/results/exit-tuning.md). The
    end token is scored like any other; the paper does not say.
    """
    SPECEM_PAPER = "specem-paper"
    """SpecEM, the later version (arXiv 2412.07380 v3, NeurIPS 2025).

    From the paper: verifiers' weights by multiplicative updates, rewarded for winning pairwise
    comparisons, at a rate of eta * sqrt(1 / n) / round. From the authors' code: sampling at
    temperature 0.6 with a nucleus of 0.9, segments of 10 tokens, self-judgement kept, no exit. Two
    departures: the authors score by the mean logit, which is not comparable between models and
    inverts the order where it is negative, so the mean probability stands for it; and the paper's
    eta is in no text we could read (in the code the updates are off), so ours is kept.
    """


_VALUES: Final[Mapping[Preset, Mapping[str, Any]]] = {
    Preset.DEFAULT: {},
    Preset.SEGMENTS: {"vote": "segments"},
    Preset.SPECFUSE_PAPER: {
        "segment_tokens": 10,
        "vote": "segments",
        "statistic": "mean_probability",
        "weighting": "uniform",
        "self_judgement": "include",
        "exit": {"policy": "entropy_softmax", "tau0": 0.05, "alpha": 0.5, "recall": False},
    },
    Preset.SPECEM_PAPER: {
        "segment_tokens": 10,
        "vote": "segments",
        "statistic": "mean_probability",
        "weighting": "hedge",
        "self_judgement": "include",
        "sampling": {"temperature": 0.6, "top_p": 0.9},
        "exit": {"policy": "none"},
    },
}


def completed(ensemble: Mapping[str, Any]) -> dict[str, Any]:
    """An ensemble as its file says it, with what its preset adds.

    A preset that does not exist adds nothing: the settings report the wrong name.
    """
    chosen = ensemble.get("preset", Preset.DEFAULT)
    known = isinstance(chosen, str) and chosen in Preset.__members__.values()
    return _laid_over(_VALUES[Preset(chosen)] if known else {}, ensemble)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings merged; `above` takes precedence, key by key, also within sections."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _laid_over(below[key], above[key])
    return merged
