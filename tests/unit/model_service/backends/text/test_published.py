"""A tokenizer read from its files is the one that transformers makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from model_service.backends.text.files import ModelFiles
from model_service.backends.text.loading import load_tokenizer
from model_service.backends.text.published import configured_ends, read_tokenizer
from model_service.backends.text.tokenizer import SegmentTokenizer
from specfuse.demo.experts import EXPERTS
from specfuse.errors import Misconfigured
from tests.support.tokenizers import KINDS, TEXTS, kind, published

PLAIN = "PreTrainedTokenizerFast"
"""The class of tokenizers that are what their `tokenizer.json` says."""

CHATML = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"


def description(tokenizer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tokenizer.to_str())
    return found | {"padding": None, "truncation": None}


def assert_same(directory: Path) -> None:
    ours, theirs = read_tokenizer(directory), AutoTokenizer.from_pretrained(directory)
    assert description(ours.tokenizer) == description(theirs.backend_tokenizer)
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template
    assert ours.id_of("eos_token") == theirs.eos_token_id
    assert ours.id_of("unk_token") == theirs.unk_token_id


def written(directory: Path, files: dict[str, Any], tokenizer: str = "byte_bpe") -> None:
    """A tokenizer's files, and a configuration, without which transformers reads none."""
    kind(tokenizer).tokenizer.backend_tokenizer.save(str(directory / "tokenizer.json"))
    for name, content in {"config.json": {"model_type": "llama"}, **files}.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


# --- the same as transformers has it ------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_what_transformers_wrote_is_read_as_it_reads_it(tmp_path: Path, name: str) -> None:
    written(tmp_path, {}, name)
    kind(name).tokenizer.save_pretrained(tmp_path)
    assert_same(tmp_path)
    theirs = SegmentTokenizer(published(AutoTokenizer.from_pretrained(tmp_path)))
    assert load_tokenizer(ModelFiles("tokenizer", str(tmp_path))).fingerprint == theirs.fingerprint


@pytest.mark.parametrize("expert", EXPERTS, ids=lambda expert: expert.name)
def test_the_experts_tokenizers_are_those_of_transformers(expert: Any) -> None:
    assert_same(expert.path)
    theirs = published(AutoTokenizer.from_pretrained(expert.path))
    loaded = load_tokenizer(ModelFiles("tokenizer", str(expert.path)))
    assert loaded.fingerprint == SegmentTokenizer(theirs).fingerprint


SPELT = ["<s>", "</s>", "<unk>", "<|user|>", "<|new|>", "<image>", "word", "Ġthe"]
flags = st.fixed_dictionaries(
    {}, optional={flag: st.booleans() for flag in ("lstrip", "rstrip", "normalized", "single_word")}
)
spelt = st.sampled_from(SPELT)
objects = st.builds(
    lambda text, flags: {"__type": "AddedToken", "content": text, **flags}, spelt, flags
)
tokens = st.one_of(spelt, objects)
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "image_token")
named = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMED, st.one_of(st.none(), tokens)))
listed = st.lists(spelt, max_size=3, unique=True)
decoders = st.dictionaries(
    st.integers(0, 1000).map(str),
    st.builds(
        lambda text, flags, special: {"content": text, "special": special, **flags},
        spelt,
        flags,
        st.booleans(),
    ),
    max_size=4,
)
mapped = st.dictionaries(st.sampled_from(["audio_token", "end_of_turn"]), spelt, min_size=1)
UNNAMED = (
    ("additional_special_tokens", listed),
    ("extra_special_tokens", listed),
    ("extra_special_tokens", mapped),
)
"""The ways of saying which tokens are special without a usual name: a publisher has one."""

others = st.fixed_dictionaries(
    {},
    optional={
        "added_tokens_decoder": decoders,
        "add_bos_token": st.booleans(),
        "add_eos_token": st.booleans(),
    },
)


def plain(token: Any) -> Any:
    """A token as `special_tokens_map.json` has it."""
    if not isinstance(token, dict):
        return token
    return {key: value for key, value in token.items() if key != "__type"}


@st.composite
def said(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What `tokenizer_config.json` says of tokens, and `special_tokens_map.json` if it is there."""
    key, tokens = draw(st.sampled_from(UNNAMED))
    unnamed = st.fixed_dictionaries({}, optional={key: tokens})
    config = draw(named) | draw(unnamed) | draw(others)
    if draw(st.booleans()):
        return config, None
    known = {name: plain(token) for name, token in draw(named).items() if token is not None}
    return config, known | draw(unnamed)


later = st.dictionaries(
    st.sampled_from(["<|later|>", "zebra", "the"]), st.integers(0, 1200), max_size=3
)


@given(st.sampled_from(["byte_bpe", "llama2_bpe"]), said(), st.none() | later)
@example("llama2_bpe", ({"pad_token": "<|new|>", "added_tokens_decoder": {}}, None), None)
@example(
    "byte_bpe",
    (
        {"unk_token": {"__type": "AddedToken", "content": "<|new|>", "lstrip": True}},
        {"eos_token": "<|new|>", "additional_special_tokens": ["<|new|>"]},
    ),
    None,
)
@example("byte_bpe", ({"eos_token": "</s>"}, {"eos_token": "<s>"}), {"<|new|>": 1000, "a": 1001})
@settings(deadline=None, max_examples=60)
def test_whatever_the_files_say_of_tokens_counts_as_with_transformers(
    name: str,
    said: tuple[dict[str, Any], dict[str, Any] | None],
    added: dict[str, int] | None,
) -> None:
    config, special = said
    files: dict[str, Any] = {"tokenizer_config.json": {"tokenizer_class": PLAIN, **config}}
    if special is not None:
        files["special_tokens_map.json"] = special
    if added is not None:
        files["added_tokens.json"] = added
    with TemporaryDirectory() as directory:
        written(Path(directory), files, name)
        assert_same(Path(directory))


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": {"chat_template": CHATML}},
        {"tokenizer_config.json": {"chat_template": "of old"}, "chat_template.jinja": CHATML},
        {
            "tokenizer_config.json": {
                "chat_template": [
                    {"name": "default", "template": CHATML},
                    {"name": "tool_use", "template": "for tools"},
                ]
            }
        },
        {"chat_template.jinja": CHATML, "additional_chat_templates/rag.jinja": "for rag"},
        {"additional_chat_templates/rag.jinja": "for rag"},
        {},
    ],
)
def test_the_chat_template_is_found_where_transformers_finds_it(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    config = {"tokenizer_class": PLAIN, "eos_token": "</s>", "unk_token": "<unk>"}
    said = config | files.get("tokenizer_config.json", {})
    written(tmp_path, {**files, "tokenizer_config.json": said})
    assert_same(tmp_path)


def test_what_pads_is_known_by_how_texts_are_padded(tmp_path: Path) -> None:
    written(tmp_path, {"tokenizer_config.json": {"tokenizer_class": PLAIN, "unk_token": "<unk>"}})
    backend = read_tokenizer(tmp_path).tokenizer
    backend.enable_padding(pad_token="</s>", pad_id=2)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path).special_tokens["pad_token"] == "</s>"
    assert_same(tmp_path)


# --- where transformers has rules of its own ------------------------------------------------------


def qwen2() -> PreTrainedTokenizerFast:
    """As transformers builds a tokenizer of this class."""
    model = description(kind("byte_bpe").tokenizer.backend_tokenizer)["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return Qwen2Tokenizer(vocab=model["vocab"], merges=merges)


REBUILT = {
    "LlamaTokenizerFast": ("llama", lambda: kind("llama2_bpe").tokenizer),
    "GPT2TokenizerFast": ("gpt2", lambda: kind("byte_bpe").tokenizer),
    "Qwen2TokenizerFast": ("qwen2", qwen2),
}


def rebuilt(directory: Path, name: str) -> tuple[Any, SegmentTokenizer]:
    """A tokenizer of a class of transformers that knows its rules by heart, and ours."""
    model_type, build = REBUILT[name]
    build().save_pretrained(directory)
    config = json.loads((directory / "tokenizer_config.json").read_text("utf-8"))
    written_as = config | {"tokenizer_class": name}
    (directory / "tokenizer_config.json").write_text(json.dumps(written_as), "utf-8")
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}), "utf-8")
    ours = SegmentTokenizer(read_tokenizer(directory))
    return AutoTokenizer.from_pretrained(directory), ours


@pytest.fixture(scope="module", params=["GPT2TokenizerFast", "Qwen2TokenizerFast"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, SegmentTokenizer]:
    return rebuilt(tmp_path_factory.mktemp(request.param), request.param)


snippets = st.sampled_from([*TEXTS.values(), "<s>a </s> b"]).flatmap(
    lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
        lambda span: text[min(span) : max(span)]
    )
)


@given(st.one_of(snippets, st.text(max_size=30)))
@settings(deadline=None)
def test_ids_are_those_of_the_class_that_transformers_has_for_it(
    both: tuple[Any, SegmentTokenizer], text: str
) -> None:
    theirs, ours = both
    assert ours.sent_ids(text) == tuple(theirs(text).input_ids)


@pytest.mark.parametrize("text", ["  two spaces", "<s>[INST]", "</s> and", "<s>"])
def test_where_a_class_has_other_rules_than_the_file_the_file_counts(
    tmp_path: Path, text: str
) -> None:
    """As for Llama 2: the class puts a marker at the beginning only, and not before a space."""
    theirs, ours = rebuilt(tmp_path, "LlamaTokenizerFast")
    said = tuple(kind("llama2_bpe").tokenizer(text).input_ids)
    assert ours.sent_ids(text) == said
    assert (tuple(theirs(text).input_ids) == said) is (text == "<s>")


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({"generation_config.json": {"eos_token_id": [5, 6]}, "config.json": {}}, (5, 6)),
        ({"generation_config.json": {"eos_token_id": 0}}, (0,)),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 7}}, (7,)),
        ({"config.json": {"text_config": {"eos_token_id": 8}, "eos_token_id": 9}}, (8,)),
        ({"config.json": {"text_config": {}, "eos_token_id": 9}}, (9,)),
        ({}, ()),
    ],
)
def test_an_answer_ends_where_the_models_configuration_says(
    tmp_path: Path, files: dict[str, Any], ends: tuple[int, ...]
) -> None:
    written(tmp_path, files)
    assert configured_ends(tmp_path) == ends


# --- what is refused ------------------------------------------------------------------------------


def test_an_older_form_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(Misconfigured) as refused:
        load_tokenizer(ModelFiles("tokenizer", str(tmp_path)))
    assert f"tokenizer: '{tmp_path}': there is no tokenizer.json; convert" in str(refused.value)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"tokenizer.json": "{"}, "cannot be loaded"),
        ({"tokenizer_config.json": "[1"}, "cannot be loaded"),
        ({"tokenizer_config.json": {"eos_token": {"text": "</s>"}}}, "cannot be loaded"),
        ({"generation_config.json": {"eos_token_id": 1.5}}, "cannot be loaded"),
        ({"tokenizer_config.json": {}}, "no end-of-sequence token"),
        (
            {"tokenizer_config.json": {"eos_token": "</s>", "chat_template": "{% for %}"}},
            "the model's chat template is none",
        ),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    written(tmp_path, files)
    with pytest.raises(Misconfigured, match=f"^tokenizer: '{tmp_path}'.*{says}"):
        load_tokenizer(ModelFiles("tokenizer", str(tmp_path)))
