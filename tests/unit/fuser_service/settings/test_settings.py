"""The settings file of a fuser: defaults, limits, and errors that say what to do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fuser_service.core.rules import (
    ExitKind,
    ExitRules,
    ObjectionRules,
    Rules,
    Statistic,
    Vote,
)
from fuser_service.core.types import Sampling
from fuser_service.fusion.query import Timings
from fuser_service.settings import settings as settings_module
from fuser_service.settings.settings import Ensemble, Limits, Settings
from fuser_service.validation import GenerateRequest, Overrides, resolve
from specfuse.config.types import Section
from specfuse.errors import InvalidArgument, Misconfigured

SMALLEST = """\
members:
  a: {endpoints: ["127.0.0.1:1"]}
  b: {endpoints: ["[::1]:2", "b-0.b:2"]}
ensembles:
  both:
    members: [a, b]
"""

VOTING = """\
members:
  a: {endpoints: ["127.0.0.1:1"]}
ensembles:
  one: """


def problems_of(text: str) -> list[str]:
    with pytest.raises(Misconfigured) as raised:
        Settings.parse(text, source="fuser.yaml")
    return raised.value.message.splitlines()


def with_ensemble(**keys: Any) -> str:
    document = yaml.safe_load(SMALLEST)
    document["ensembles"]["both"] |= keys
    return yaml.safe_dump(document)


def test_little_needs_to_be_said() -> None:
    settings = Settings.parse(SMALLEST, source="fuser.yaml")
    assert settings.listen == "127.0.0.1:50050"
    assert settings.members["b"].endpoints == ("[::1]:2", "b-0.b:2")
    assert settings.ensembles["both"].members == ("a", "b")
    assert settings.ensembles["both"].statistic is Statistic.GEOMETRIC
    assert settings.ensembles["both"].quorum == 1


def test_the_defaults_of_an_ensemble_are_the_rules_defaults() -> None:
    """Said twice, in the settings and in the core: kept equal here."""
    ensemble = Ensemble(members=("a",))
    query = resolve(GenerateRequest(prompt="?"), "one", ensemble, Limits())
    assert query.rules == Rules(members=("a",), max_tokens=ensemble.max_tokens, opener="a")
    assert query.timings == Timings(
        ensemble.straggler_grace_seconds, ensemble.round_timeout_seconds
    )


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("vote: segments, exit: {policy: watch}", r"exit\.policy: watch needs vote: words"),
        (
            "vote: segments, sharpness: 2.0",
            r"sharpness: has no effect with vote: segments; say vote: words",
        ),
        ("vote: words, statistic: per_byte", r"statistic: has no effect with vote: words"),
        ("statistic: per_byte", r"statistic: has no effect with vote: words; say vote: segments"),
        ("exit: {tau0: 0.1}", r"exit\.tau0: has no effect with policy watch"),
        ("exit: {alpha: 0.1}", r"exit\.alpha: has no effect with policy watch"),
        ("vote: segments, exit: {patience: 3}", r"exit\.patience: has no effect with policy ent"),
        ("vote: letters", r"vote: .*'words'"),
        ("vote: words, sharpness: -1.0", r"sharpness: "),
        ("vote: words, foresight: -1.0", r"foresight: "),
        (
            "vote: segments, foresight: 2.0",
            r"foresight: has no effect with vote: segments; say vote: words",
        ),
        ("vote: words, objections: {regret: 0.0}", r"objections\.regret: "),
        (
            "exit: {policy: none}, draft_ahead: true",
            r"draft_ahead: has no effect with exit policy none.* say exit: {policy: watch}",
        ),
        (
            "vote: segments, stretch: 2",
            r"stretch: has no effect with exit policy entropy.* say vote: words, or drop it",
        ),
        ("stretch: 0", r"stretch: "),
        (
            "segment_tokens: 20, stretch: 4",
            r"stretch: 4 times segment_tokens, 20, is above .*, 64; lower it or raise the limit",
        ),
    ],
)
def test_what_belongs_to_one_vote_is_refused_in_the_other(said: str, problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        Settings.parse(f"{VOTING}{{members: [a], {said}}}\n", source="fuser.yaml")


def test_a_vote_on_words_reaches_the_rules() -> None:
    counts = "sharpness: 2.0, foresight: 6.0"
    said = f"vote: words, {counts}, objections: {{regret: 2.0, entropy: 0.5}}"
    settings = Settings.parse(
        f"{VOTING}{{members: [a], {said}, exit: {{patience: 9}}}}\n", source="fuser.yaml"
    )
    rules = resolve(GenerateRequest(prompt="?"), "one", settings.ensembles["one"], Limits()).rules
    assert (rules.vote, rules.exit.kind, rules.watching) == (Vote.WORDS, ExitKind.WATCH, True)
    assert (rules.sharpness, rules.foresight) == (2.0, 6.0)
    assert rules.exit.patience == 9
    assert rules.objections == ObjectionRules(regret=2.0, entropy=0.5)


def test_how_a_lone_drafter_drafts_reaches_the_query() -> None:
    ensemble = Ensemble(members=("a", "b"), draft_ahead=True, stretch=4)
    query = resolve(GenerateRequest(prompt="?"), "one", ensemble, Limits())
    assert query.draft_ahead
    assert query.rules.stretch_tokens == 4 * ensemble.segment_tokens
    longer = GenerateRequest(prompt="?", overrides=Overrides(segment_tokens=30))
    most = resolve(longer, "one", ensemble, Limits()).rules.stretch_tokens
    assert most == ensemble.segment_tokens_limit, "members need not draft more"
    plain = resolve(GenerateRequest(prompt="?"), "one", Ensemble(members=("a",)), Limits())
    assert not plain.draft_ahead
    assert not plain.rules.stretch_tokens


def test_members_open_answers_in_turns_and_the_same_one_the_same_question() -> None:
    members = ("a", "b", "c", "d")
    settings = [Ensemble(members=members), Ensemble(members=members[::-1])]
    one, other = (
        [
            resolve(GenerateRequest(prompt=f"{n}?"), "one", ensemble, Limits()).rules.opener
            for n in range(400)
        ]
        for ensemble in settings
    )
    assert one == other
    assert all(60 < one.count(member) < 140 for member in members)


def test_who_asks_for_a_statistic_asks_for_the_vote_that_has_one() -> None:
    ensemble = Ensemble(members=("a",), vote=Vote.WORDS)
    overrides = Overrides(statistic=Statistic.PER_BYTE)
    request = GenerateRequest(prompt="?", overrides=overrides)
    rules = resolve(request, "one", ensemble, Limits()).rules
    assert (rules.vote, rules.statistic) == (Vote.SEGMENTS, Statistic.PER_BYTE)
    assert rules.exit.kind is ExitKind.ENTROPY_SOFTMAX
    watch = replace(overrides, exit_policy=ExitKind.WATCH)
    with pytest.raises(InvalidArgument, match="needs a vote on words"):
        resolve(replace(request, overrides=watch), "one", ensemble, Limits())


def test_everything_that_is_said_reaches_the_rules() -> None:
    settings = Settings.parse(
        SMALLEST
        + """\
    segment_tokens: 7
    max_tokens: 70
    sampling: {temperature: 0.5, top_p: 0.9, top_k: 40}
    vote: segments
    statistic: per_byte
    weighting: hedge
    eta: 0.25
    self_judgement: drop
    fast_finish: true
    exit: {policy: none, tau0: 0.3, alpha: 0.2, min_rounds: 3, min_models: 2, recall_ratio: 0.8}
    quorum: 2
    max_misses: 4
    straggler_grace_seconds: 1
    round_timeout_seconds: 2.5
""",
        source="fuser.yaml",
    )
    query = resolve(
        GenerateRequest(prompt="?", seed=3), "both", settings.ensembles["both"], settings.limits
    )
    assert query.sampling == Sampling(0.5, 0.9, 40, seed=3)
    assert query.timings == Timings(1.0, 2.5)
    assert (query.rules.segment_tokens, query.rules.max_tokens) == (7, 70)
    assert (query.rules.quorum, query.rules.max_misses, query.rules.eta) == (2, 4, 0.25)
    assert query.rules.fast_finish
    assert query.rules.exit == ExitRules(
        ExitKind.NONE, tau0=0.3, alpha=0.2, min_rounds=3, min_models=2, recall_ratio=0.8
    )


def test_nothing_can_be_changed_afterwards() -> None:
    settings = Settings.parse(SMALLEST, source="fuser.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        settings.limits.requests_in_flight = 3  # type: ignore[misc]


def test_overrides_replace_top_level_keys(tmp_path: Path) -> None:
    path = tmp_path / "fuser.yaml"
    path.write_text("listen: 127.0.0.1:1\n" + SMALLEST, encoding="utf-8")
    assert Settings.read(path).listen == "127.0.0.1:1"
    assert Settings.read(path, {"listen": "127.0.0.2:0"}).listen == "127.0.0.2:0"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"missing\.yaml: cannot be read: .*No such file"):
        Settings.read(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"quorun": 1}, "both.quorun: unknown key; did you mean quorum?"),
        ({"exit": {"tau": 1}}, "both.exit.tau: unknown key; did you mean tau0?"),
        ({"zzz": 1}, "both.zzz: unknown key; known: draft_ahead, eta, exit, "),
        ({"quorum": 3}, "both.quorum: 3 is more than the ensemble's members; use 1 to 2"),
        ({"quorum": 0}, "both.quorum: 0: must be greater than or equal to 1"),
        ({"quorum": True}, "both.quorum: True: must be a whole number"),
        ({"quorum": 1.5}, "both.quorum: 1.5: must be a whole number"),
        ({"exit": {"min_models": 3}}, "both.exit.min_models: 3 is more than the ensemble's"),
        ({"members": ["a", "c"]}, "both.members[1]: there is no member c; members: a, b"),
        ({"members": ["a", "a"]}, "both.members[1]: a is listed twice"),
        ({"members": []}, "both.members: must have at least 1 item"),
        ({"members": "a"}, "both.members: 'a': must be a list"),
        ({"segment_tokens": 65}, "both.segment_tokens: 65 is above segment_tokens_limit, 64"),
        ({"max_tokens": 5000}, "both.max_tokens: 5000 is above max_tokens_limit, 4096"),
        ({"segment_tokens_limit": 513}, "both.segment_tokens_limit: 513: must be less than"),
        ({"statistic": "mean"}, "both.statistic: 'mean': must be 'geometric', 'mean_probability'"),
        ({"exit": {"policy": "none", "recall": True}}, "both.exit.recall: contradicts policy none"),
        ({"exit": {"tau0": 0}}, "both.exit.tau0: 0: must be greater than 0"),
        ({"exit": {"tau0": float("inf")}}, "both.exit.tau0: inf: must be a finite number"),
        ({"exit": {"alpha": 1.1}}, "both.exit.alpha: 1.1: must be less than or equal to 1"),
        ({"fast_finish": 1}, "both.fast_finish: 1: must be a boolean: true or false"),
        ({"sampling": {"temperature": 2.5}}, "both.sampling.temperature: 2.5: must be less than"),
        ({"wake_seconds": -1}, "both.wake_seconds: -1: must be greater than or equal to 0"),
        (
            {"wake_seconds": 600.0},
            "both.wake_seconds: 600 leaves no time of request_timeout_seconds, 600, to answer",
        ),
        (
            {"wake_grace_seconds": 5.0},
            "both.wake_grace_seconds: has no effect while wake_seconds is 0; raise that",
        ),
        ({"round_timeout_seconds": 0}, "both.round_timeout_seconds: 0: must be greater than 0"),
        ({"round_timeout_seconds": "9s"}, "both.round_timeout_seconds: '9s': must be a number"),
    ],
)
def test_a_wrong_value_of_an_ensemble_is_named_with_its_remedy(
    keys: dict[str, Any], problem: str
) -> None:
    (line,) = problems_of(with_ensemble(**keys))
    assert f"ensembles.{problem}" in line


def test_of_many_members_a_message_names_the_first() -> None:
    members = "".join(f"  m{number}: {{endpoints: ['h:1']}}\n" for number in range(30))
    (line,) = problems_of(f"members:\n{members}ensembles: {{e: {{members: [x]}}}}")
    assert line.endswith(
        "there is no member x; members: " + ", ".join(f"m{n}" for n in range(20)) + ", ..."
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen: 50051\n" + SMALLEST, "fuser.yaml:1: listen: 50051: must be a valid string"),
        ("listen: here\n" + SMALLEST, "fuser.yaml:1: listen: 'here': must be host:port, as in"),
        ("listen: h:70000\n" + SMALLEST, "listen: 'h:70000': must be host:port"),
        ("drain_seconds: -1\n" + SMALLEST, "drain_seconds: -1: must be greater than or equal to 0"),
        (
            "tenancy: {anonymous: allow, teams: {'a b': {}}}\n" + SMALLEST,
            "fuser.yaml:1: tenancy.teams.a b: 'a b': must match pattern",
        ),
        ("limits: {committed_segments: 5000}\n" + SMALLEST, "limits.committed_segments: 5000"),
        ("tls: {certificate: x}\n" + SMALLEST, "fuser.yaml:1: tls.key: is required"),
        (SMALLEST.replace("127.0.0.1:1", "h:0"), "fuser.yaml:2: members.a.endpoints[0]: 'h:0': "),
        (SMALLEST.replace("b-0.b:2", "[::1]:2"), "members.b.endpoints[1]: [::1]:2 is listed twice"),
        (
            SMALLEST.replace('"127.0.0.1:1"]', '"h:1"], tls: {key: x}'),
            "members.a.tls: certificate and key go together; give both or neither",
        ),
        ("members: {}\nensembles: {}", "fuser.yaml:1: members: must have at least 1 item"),
        (
            SMALLEST.replace(
                "\nensembles",
                "".join(f"\n  m{n}: {{endpoints: [h:1]}}" for n in range(1023)) + "\nensembles",
            ),
            "fuser.yaml:1: members: must have at most 1024 items, not more",
        ),
        ("listen: h:1", "fuser.yaml: members: is required"),
        ("[]", "fuser.yaml: must be a mapping of settings"),
        ("", "fuser.yaml: must be a mapping of settings"),
        ("a: [", "fuser.yaml:1: not YAML: "),
    ],
)
def test_a_wrong_file_is_named_with_line_and_remedy(text: str, problem: str) -> None:
    assert any(problem in line for line in problems_of(text))


def test_all_problems_are_reported_at_once() -> None:
    text = SMALLEST + "    quorum: 3\n    max_tokens: 9999\nlimits: {prompt_bytez: 1}\n"
    assert len(problems_of(text)) == 1  # the shape comes first
    assert len(problems_of(text.replace("bytez", "bytes"))) == 2


def test_a_key_given_twice_is_not_silently_the_last_one() -> None:
    (line,) = problems_of(SMALLEST + "  both: {members: [b]}\n")
    assert line.endswith("ensembles.both: given twice, on lines 5 and 7")


def test_every_key_is_described() -> None:
    sections = [
        section
        for section in vars(settings_module).values()
        if isinstance(section, type) and issubclass(section, Section)
    ]
    assert len(sections) > 8
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_the_example_in_the_documentation_is_right() -> None:
    documentation = settings_module.__doc__ or ""
    lines = [line[4:] for line in documentation.splitlines() if line.startswith("    ")]
    settings = Settings.parse("\n".join(lines), source="example")
    assert settings.ensembles["assistant"].exit.patience == 16


BOMB = "".join(f"{a}: &{a} [{', '.join([f'*{b}'] * 9)}]\n" for b, a in pairwise("abcdefgh"))


@pytest.mark.parametrize("text", ["members: &a [*a]\n", f"a: &a [1]\n{BOMB}"])
def test_aliases_without_end_are_refused(text: str) -> None:
    (problem,) = problems_of(text)
    assert "do its aliases refer to themselves?" in problem


def test_aliases_with_an_end_are_taken() -> None:
    ensembles = "ensembles: {x: {members: &all [a]}, y: {members: *all}}\n"
    parsed = Settings.parse("members: {a: {endpoints: [h:1]}}\n" + ensembles, source="x")
    assert parsed.ensembles["y"].members == ("a",)
