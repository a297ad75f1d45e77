"""What cannot fit a window is refused before it is tokenized; what can is tokenized as ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import specfuse.demo
from model_service.backends.text import cuts
from model_service.backends.text.bounds import TokenBound, bound_of
from model_service.backends.text.cuts import can_cut
from model_service.backends.text.encoders import UNLIMITED
from model_service.backends.text.spelling import spelling_of
from model_service.backends.text.tokenizer import Prompt, SegmentTokenizer
from model_service.core.types import Context, Message, Role
from specfuse.errors import ContextTooLong
from tests.support.tokenizers import KINDS, TEXTS, kind, published

EXPERTS = ("capitals", "opposites", "spanish", "sums")
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MEBIBYTE = 1 << 20


def copied(name: str) -> Tokenizer:
    return Tokenizer.from_str(kind(name).tokenizer.backend_tokenizer.to_str())


def llama3() -> Tokenizer:
    changed = copied("byte_bpe")
    words = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    changed.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_])
    return changed


def composing() -> Tokenizer:
    changed = copied("byte_bpe")
    changed.normalizer = normalizers.NFC()
    return changed


def compatible() -> Tokenizer:
    changed = copied("byte_bpe")
    changed.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return changed


def swallowing() -> Tokenizer:
    changed = copied("byte_bpe")
    changed.add_special_tokens([AddedToken("<tool>", lstrip=True, rstrip=True, special=True)])
    return changed


def normalizing() -> Tokenizer:
    changed = compatible()
    changed.add_special_tokens([AddedToken("<tool>", normalized=True, special=True)])
    return changed


def fusing() -> Tokenizer:
    """Any number of unknown characters become one token."""
    description = json.loads(copied("llama2_bpe").to_str())
    description["model"]["byte_fallback"] = False
    return Tokenizer.from_str(json.dumps(description))


def removing() -> Tokenizer:
    changed = llama3()
    dropped = pre_tokenizers.Split(Regex(r"\p{L}+"), behavior="removed")
    changed.pre_tokenizer = pre_tokenizers.Sequence([dropped, pre_tokenizers.ByteLevel()])
    return changed


CHANGED = {
    build.__name__: build
    for build in (llama3, composing, compatible, swallowing, normalizing, fusing, removing)
}


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    if name in KINDS:
        return kind(name).tokenizer
    if name in EXPERTS:
        models = Path(specfuse.demo.__file__).parent / "models"
        return AutoTokenizer.from_pretrained(models / name)
    return PreTrainedTokenizerFast(
        tokenizer_object=CHANGED[name](),
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=kind("byte_bpe").tokenizer.chat_template,
    )


NAMES = (*KINDS, *EXPERTS, *CHANGED)
TOKENIZERS = {name: tokenizer_of(name) for name in NAMES}
DESCRIPTIONS = {
    name: json.loads(tokenizer.backend_tokenizer.to_str()) for name, tokenizer in TOKENIZERS.items()
}
WHOLE = {name: SegmentTokenizer(published(tokenizer)) for name, tokenizer in TOKENIZERS.items()}
for whole in WHOLE.values():  # the plain way, to compare with
    whole._encoders._cuts = whole._encoders._cuts_templates = False
    whole._encoders._spelling = None
    whole._encoders._bound = TokenBound(1, lambda _: 0)


@pytest.fixture(scope="module", autouse=True)
def short_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuts, "PART_CHARACTERS", 5)
        yield


snippets = st.sampled_from(list(TEXTS.values())).flatmap(
    lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
        lambda span: text[min(span) : max(span)]
    )
)
ODD = [
    "</s>",
    "<s>",
    "<tool>",
    "＜/s＞",
    " ",
    "\n",
    "\t",
    "▁",
    "e\u0301",
    "\u212a",
    "\ufc5e",
    "\u0f77",
]
runs = st.builds(
    lambda piece, times: piece * times,
    st.sampled_from([*"a1!é法", "a1", "a b", "1 ", "word ", "ﬃ", "İ", " 👍🏽", *ODD]),
    st.sampled_from([1, 3, 40, 150, 1100]),
)
names = st.sampled_from(NAMES)


@st.composite
def texts(draw: st.DrawFn, name: str) -> str:
    """Texts of many scripts, and of the longest pieces that the vocabulary has."""
    spelt = map(WHOLE[name].spell, range(len(TOKENIZERS[name])))
    longest = sorted(spelt, key=len)[-20:]
    pieces = st.sampled_from([piece.decode(errors="ignore") for piece in longest])
    return "".join(draw(st.lists(st.one_of(snippets, runs, pieces), max_size=8)))


cases = names.flatmap(lambda name: st.tuples(st.just(name), texts(name)))
windows = st.integers(1, 300)


def conversation(text: str) -> Prompt:
    return (Message(Role.USER, f"{text}?"), Message(Role.ASSISTANT, text), Message(Role.USER, text))


@given(cases)
@settings(deadline=None, max_examples=200)
def test_no_text_has_fewer_tokens_than_its_bound(case: tuple[str, str]) -> None:
    name, text = case
    least = bound_of(DESCRIPTIONS[name]).at_least(text, UNLIMITED)
    assert least <= len(WHOLE[name]._encoders.raw(text))
    assert least <= len(WHOLE[name]._encoders.continuation(text))
    assert least <= len(WHOLE[name]._encoders.rendered(text, {}))


@given(cases)
@settings(deadline=None, max_examples=200)
def test_parts_have_the_tokens_of_the_whole(case: tuple[str, str]) -> None:
    name, text = case
    ours, whole = SegmentTokenizer(published(TOKENIZERS[name]))._encoders, WHOLE[name]._encoders
    assert ours.raw(text) == whole.raw(text)
    assert ours.continuation(text) == whole.continuation(text)
    assert ours.rendered(text, {}) == whole.rendered(text, {})


@given(cases)
@settings(deadline=None, max_examples=200)
def test_special_tokens_are_found_as_the_tokenizer_finds_them(case: tuple[str, str]) -> None:
    name, text = case
    ours = SegmentTokenizer(published(TOKENIZERS[name]))._encoders
    assert ours.specials_in(text) == WHOLE[name]._encoders.specials_in(text)


@given(cases, windows, st.booleans())
@settings(deadline=None, max_examples=200)
def test_only_what_does_not_fit_is_refused(
    case: tuple[str, str], window: int, spoken: bool
) -> None:
    name, text = case
    prompt = conversation(f"{text}.") if spoken else f"{text}."
    context = Context(prompt, ("So", text, " it is."))
    ids = WHOLE[name].context_ids(context)
    limited = SegmentTokenizer(published(TOKENIZERS[name])).within(window)
    try:
        found = limited.context_ids(context)
    except ContextTooLong as error:
        refusal = error
    else:
        assert found == ids
        return
    assert window < int(refusal.metadata["tokens"]) <= len(ids)


@pytest.mark.parametrize("name", ["byte_bpe", "llama2_bpe", "llama3", *EXPERTS])
@pytest.mark.parametrize("text", ["a", "word ", "</s>"])
@pytest.mark.parametrize("spoken", [False, True])
def test_a_mebibyte_is_refused_without_tokenizing_it(
    name: str, text: str, spoken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = SegmentTokenizer(published(TOKENIZERS[name])).within(1024)
    monkeypatch.setattr("model_service.backends.text.encoders._ids", None)
    monkeypatch.setattr("model_service.backends.text.encoders._encoding", None)
    long = text * (MEBIBYTE // len(text))
    with pytest.raises(ContextTooLong, match=r"at least \d+ tokens do not fit .* 1024"):
        limited.prompt_ids((Message(Role.USER, long),) if spoken else long)


def test_where_nothing_is_certain_tokenizing_stops_once_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = SegmentTokenizer(published(TOKENIZERS["wordpiece"])).within(100)
    tokenized: list[int] = []
    encode = tokenizer._encoders._text_ids
    monkeypatch.setattr(
        tokenizer._encoders,
        "_text_ids",
        lambda text, by: tokenized.append(len(text)) or encode(text, by),
    )
    with pytest.raises(ContextTooLong):
        tokenizer.prompt_ids("word " * 10_000)
    assert sum(tokenized) < 2_000


@pytest.mark.parametrize("name", ["fusing", "removing", "wordpiece"])
def test_no_bound_is_made_up(name: str) -> None:
    assert bound_of(DESCRIPTIONS[name]).at_least("word " * 1000, UNLIMITED) == 0


def test_what_becomes_shorter_is_not_counted() -> None:
    bound = bound_of(DESCRIPTIONS["composing"])
    accented, plain = (bound.at_least(char * 1000, UNLIMITED) for char in ("e\u0301", "e"))
    assert accented == plain > 0
    assert bound_of(DESCRIPTIONS["swallowing"]).at_least(" " * 1000, UNLIMITED) == 0


def test_no_more_is_counted_than_is_enough() -> None:
    bound = bound_of(DESCRIPTIONS["capitals"])
    assert 100 <= bound.at_least("word " * MEBIBYTE, 100) < 2_000


@pytest.mark.parametrize("name", NAMES)
def test_who_cuts(name: str) -> None:
    never = ("superword_bpe", "compatible", "swallowing", "normalizing", "removing")
    assert can_cut(DESCRIPTIONS[name]) is (name not in never)


@pytest.mark.parametrize("name", NAMES)
def test_whose_special_tokens_are_found_by_their_strings(name: str) -> None:
    unsure = ("swallowing", "normalizing", "metaspace_unigram", "wordpiece")
    tokenizer = WHOLE[name]
    found = spelling_of(DESCRIPTIONS[name], set(tokenizer._encoders.specials.values()))
    assert (found is None) is (name in unsure)
