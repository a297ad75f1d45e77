"""A tokenizer as its files publish it, and nothing else: no weights, no program of the model's.

`tokenizer.json` has the vocabulary and the rules. What else its publisher said of its tokens stands
beside it:

    tokenizer_config.json      which token begins, ends, pads, ...; added tokens; a chat template
    special_tokens_map.json    the same, and
    added_tokens.json          added tokens, where the first names none by their ids
    chat_template.jinja        the chat template, before any other
    additional_chat_templates  further ones, by name
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, processors

from specfuse.errors import Misconfigured

_STANDARD: Final = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_NAMES: Final = tuple(f"{name}_token" for name in _STANDARD)
_LISTS: Final = ("extra_special_tokens", "additional_special_tokens")
_FLAGS: Final = ("single_word", "lstrip", "rstrip", "normalized", "special")

_Token = str | dict[str, Any]
"""A token as a file has it: its text, alone or with its flags."""


@dataclass(frozen=True, slots=True)
class PublishedTokenizer:
    """A tokenizer, the names of its special tokens, and its chat template, or several by name."""

    tokenizer: Tokenizer
    special_tokens: dict[str, str]
    """The text of each that has a name: `bos_token`, `eos_token`, ..., in order."""
    chat_template: str | dict[str, str] | None = None

    def id_of(self, name: str) -> int | None:
        """The id of the special token of this name, if there is one."""
        spelt = self.special_tokens.get(name)
        token: int | None = None if spelt is None else self.tokenizer.token_to_id(spelt)
        return token


def read_tokenizer(directory: Path) -> PublishedTokenizer:
    """The tokenizer whose files lie in a directory.

    Raises:
        Misconfigured: there is no `tokenizer.json`.
        Exception: the files are malformed: see `as_misconfiguration`.
    """
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise Misconfigured(
            "there is no tokenizer.json; convert the tokenizer once, where transformers and what "
            "its form needs (sentencepiece or tiktoken) are installed, by AutoTokenizer."
            'from_pretrained("...").save_pretrained("DIRECTORY"), and give that directory'
        )
    tokenizer = Tokenizer.from_file(str(file))
    said = _Said.read(directory, tokenizer)
    tokenizer.add_tokens([*_added(said, tokenizer.get_added_tokens_decoder())])
    if tokenizer.post_processor is None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A:0", pair="$A:0 $B:1", special_tokens=[]
        )
    named = {name: _text(token) for name, token in said.named.items()}
    return PublishedTokenizer(tokenizer, named, _chat_template(directory, said.config))


def configured_ends(directory: Path) -> tuple[int, ...]:
    """The ids at which a model's configuration says that an answer ends.

    Those of its generation settings, or else of its configuration; none if neither names any.
    """
    config = _json(directory / "config.json")
    sources = (_json(directory / "generation_config.json"), config.get("text_config"), config)
    ends = ((source or {}).get("eos_token_id") for source in sources)
    said = next((end for end in ends if end is not None), ())
    return (said,) if isinstance(said, int) else tuple(said)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the files beside `tokenizer.json` say of its tokens."""

    config: dict[str, Any]
    added: dict[int, AddedToken]
    """By their ids, those that `tokenizer.json` has included."""
    named: dict[str, _Token]
    extra: list[_Token]

    @classmethod
    def read(cls, directory: Path, tokenizer: Tokenizer) -> _Said:
        config = _json(directory / "tokenizer_config.json")
        config = {"pad_token": (tokenizer.padding or {}).get("pad_token")} | config
        if "added_tokens_decoder" in config:
            decoder = config["added_tokens_decoder"].items()
            added = {int(index): _flagged(token) for index, token in decoder}
            return cls(config, added, _named(config, {}), _extra(config, {}))
        spelt = _json(directory / "special_tokens_map.json")
        named, extra = _named(config, spelt), _extra(config, spelt)
        specials = {*map(_text, named.values()), *map(_text, extra)}
        added = {
            index: AddedToken(text, special=text in specials, normalized=text not in specials)
            for text, index in _json(directory / "added_tokens.json").items()
        }
        return cls(config, added | tokenizer.get_added_tokens_decoder(), named, extra)


def _named(config: dict[str, Any], spelt: dict[str, Any]) -> dict[str, _Token]:
    """The special tokens that have names. Of usual names the map has the last word, of others the
    configuration, as far as it has their text alone.
    """
    both = config | {name: _special(token) for name, token in spelt.items()}
    usual = {name: both.get(name) for name in _NAMES}
    others = {name: both[name] for name in both if name.endswith("_token") and name not in usual}
    texts = {name: config[name] for name in others if isinstance(config.get(name), str)}
    flagged = {name: token for name, token in others.items() if name in spelt or name not in texts}
    more = [source.get("extra_special_tokens") for source in (config, spelt)]
    mappings = [tokens for tokens in more if isinstance(tokens, dict)]
    named = usual | flagged | texts | {name: each[name] for each in mappings for name in each}
    return {name: token for name, token in named.items() if isinstance(token, str | dict)}


def _extra(config: dict[str, Any], spelt: dict[str, Any]) -> list[_Token]:
    """The special tokens without names, for which there are a new key and an old one.

    A mapping of them has names. Of the map only the new key adds to what the configuration has.
    """
    new, old = (None if isinstance(config.get(k), dict) else config.get(k) for k in _LISTS)
    said: list[_Token] | None = old if old is not None and not new else new
    more = spelt.get(_LISTS[0])
    if isinstance(more, list):
        return [*(said or ()), *(_special(token) for token in more if token not in (said or ()))]
    return [*((spelt.get(_LISTS[1]) if said is None else said) or ())]


def _added(said: _Said, own: dict[int, AddedToken]) -> Iterator[AddedToken]:
    """What the tokenizer is to have besides its own: tokens by id, then any not among them.

    A special token that has a name is one, whatever else is said of it. What is said of a token
    twice, differently, is yielded twice: the last counts.
    """
    names = {_text(token) for token in said.named.values()}
    known = {token.content for token in (*own.values(), *said.added.values())}
    tokens = [token for _, token in sorted(said.added.items())]
    further: list[str | AddedToken] = []
    for special in (*said.named.values(), *said.extra):
        said_so = special if isinstance(special, str) else _flagged(special)
        if _text(special) not in known and said_so not in further:
            further.append(said_so)
    for token in (*tokens, *map(_flagged, further)):
        token.special = token.special or token.content in names
        yield token


def _special(token: Any) -> Any:  # noqa: ANN401 (whatever a file has for a token)
    """Whatever the map has is special."""
    return token | {"special": True} if isinstance(token, dict) else token


def _flagged(token: _Token | AddedToken) -> AddedToken:
    """Text alone is a special token, with the flags that such a token usually has."""
    if isinstance(token, str):
        return AddedToken(token, special=True)
    if isinstance(token, AddedToken):
        return token
    return AddedToken(token["content"], **{flag: token[flag] for flag in _FLAGS if flag in token})


def _text(token: _Token) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _chat_template(directory: Path, config: dict[str, Any]) -> str | dict[str, str] | None:
    """The chat template. Files of their own come before what the configuration has."""
    paths = {path.stem: path for path in directory.glob("additional_chat_templates/*.jinja")}
    if (only := directory / "chat_template.jinja").is_file():
        paths = {"default": only} | {name: paths[name] for name in paths if name != "default"}
    templates = {name: path.read_text("utf-8") for name, path in paths.items()}
    if templates:
        return templates["default"] if templates.keys() == {"default"} else templates
    said: str | list[dict[str, str]] | None = config.get("chat_template")
    if isinstance(said, list):
        return {each["name"]: each["template"] for each in said}
    return said


def _json(path: Path) -> dict[str, Any]:
    """What a file holds, and nothing if it is not there."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found
