"""Ensembles to compare, each a name and the settings in which it differs from the default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fuser_service.core.rules import ExitRules
from fuser_service.settings.presets import Preset


@dataclass(frozen=True, slots=True)
class Configuration:
    """An ensemble of all members. `settings` are as in a fuser's file, without the members."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


DEFAULT: Final = Configuration(Preset.DEFAULT.value)

SEGMENTS: Final = Configuration(Preset.SEGMENTS.value, {"preset": Preset.SEGMENTS.value})

_SEGMENTS: Final = {"vote": "segments"}
"""Whole segments are voted on, as published: what statistics and exits are compared by."""

NO_EXIT: Final = Configuration("no-exit", {**_SEGMENTS, "exit": {"policy": "none"}})
"""The preset `segments`, but nobody ever leaves: what exit costs in quality is measured against it.
"""

PRESETS: Final = (
    DEFAULT,
    NO_EXIT,
    *(
        Configuration(preset.value, {"preset": preset.value})
        for preset in Preset
        if preset is not Preset.DEFAULT
    ),
)
"""What is compared unless something else is asked for."""


def ablations() -> tuple[Configuration, ...]:
    """The default, the preset `segments`, and variants with one choice changed.

    What does not concern exits is varied without them, to see its effect alone: `no-exit` is what
    to compare with. The exit policy of a vote on segments has a grid. A round's consensus has no
    configuration of its own. With a single candidate every vote would give it the whole share, so
    consensus changes no answer; the calls it avoids are counted in every configuration.
    """
    return (DEFAULT, SEGMENTS, NO_EXIT, *_without_exit(), *_watching(), *_exits())


def _without_exit() -> Iterator[Configuration]:
    variants: tuple[tuple[str, dict[str, Any]], ...] = (
        ("words", {"vote": "words"}),
        *((f"words-sharp{power}", {"vote": "words", "sharpness": power}) for power in (0, 2, 16)),
        ("mean-probability", {"statistic": "mean_probability"}),
        ("per-byte", {"statistic": "per_byte"}),
        ("drop-self", {"self_judgement": "drop"}),
        ("hedge", {"weighting": "hedge"}),
        *((f"segment-{tokens}", {"segment_tokens": tokens}) for tokens in (5, 8, 15)),
    )
    for name, settings in variants:
        yield Configuration(name, {**NO_EXIT.settings, **settings})


def _watching() -> Iterator[Configuration]:
    for power in (0, 16, 48):
        yield Configuration(f"watch-foresight{power}", {"foresight": power})
    for regret, entropy in ((1.0, 0.5), (1.0, 2.0)):
        objections = {"regret": regret, "entropy": entropy}
        yield Configuration(
            f"watch-regret{regret:g}-entropy{entropy:g}", {"objections": objections}
        )


def _exits() -> Iterator[Configuration]:
    for tau0 in (0.02, 0.05, 0.1):
        yield Configuration(
            f"exit-tau{tau0}-plain", {**_SEGMENTS, "exit": {"tau0": tau0, "recall": False}}
        )
        for ratio in (0.9, 0.95, 0.98):
            if ExitRules(tau0=tau0, recall_ratio=ratio) != ExitRules():  # `segments` itself
                settings = {**_SEGMENTS, "exit": {"tau0": tau0, "recall_ratio": ratio}}
                yield Configuration(f"exit-tau{tau0}-recall{ratio}", settings)
    for alpha in (0.25, 0.75):
        yield Configuration(f"exit-alpha{alpha}", {**_SEGMENTS, "exit": {"alpha": alpha}})
