"""Which of the models that a server offers is meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_service.backends.remote import answers
from specfuse.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as its server lists it. `window` is in tokens, those of a completion included."""

    name: str
    root: str
    window: int

    def __str__(self) -> str:
        return self.name if self.name == self.root else f"{self.name} of {self.root}"


def chosen(listed: Any, name: str | None) -> ServedModel:  # noqa: ANN401
    """The model of this name, or the only one, of an answer to `/v1/models`.

    Raises:
        Misconfigured: there is none of this name, or not just one.
        ModelFailure: it is not such an answer.
    """
    cards = answers.sequence(answers.mapping(listed, "/v1/models").get("data"), "data")
    data = [answers.mapping(card, f"data[{at}]") for at, card in enumerate(cards)]
    models = [_model(card, _window(card, data), f"data[{at}]") for at, card in enumerate(data)]
    names = ", ".join(model.name for model in models) or "none"
    if name is None and len(models) != 1:
        raise Misconfigured(f"served_model: the server has not just one model, name one: {names}")
    found = next((model for model in models if name in (None, model.name)), None)
    if found is None:
        raise Misconfigured(f"served_model: {name}: the server does not have it, but has: {names}")
    return found


def _window(card: dict[str, Any], data: list[dict[str, Any]]) -> Any:  # noqa: ANN401
    """An adapter says none; it has that of the model which it adapts."""
    own = card.get("max_model_len")
    adapted = (one.get("max_model_len") for one in data if one.get("id") == card.get("parent"))
    return next(adapted, None) if own is None else own


def _model(card: dict[str, Any], window: Any, place: str) -> ServedModel:  # noqa: ANN401
    name = answers.text(card.get("id"), f"{place}.id")
    return ServedModel(
        name=name,
        root=answers.text(card.get("root") or name, f"{place}.root"),
        window=answers.count(window, f"{place}.max_model_len"),
    )
