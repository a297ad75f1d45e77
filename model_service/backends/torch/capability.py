"""Which engine a model can run on: found by looking at what it does, not at what it is called.

The packed engine needs a model whose attention goes through transformers' interface and whose
layers see everything before them, or a window of it. That is inspected in one forward pass. Then
the engine has to prove itself: its numbers for a short made-up context, fed in pieces, branched,
continued and drafted on, must be those of the model's own plain forward pass. If they are not, the
fallback has to pass the same test with caches or, failing that, without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature

import torch
from transformers import PretrainedConfig, PreTrainedModel

from model_service.backends.torch.engine.attention import (
    COMPILED_IMPLEMENTATION,
    IMPLEMENTATION,
    Inspection,
    attention_by,
)
from model_service.backends.torch.engine.buffers import KVLayout, LayerShape
from model_service.backends.torch.engine.copies import CopiesEngine
from model_service.backends.torch.engine.engine import Engine, Rows, Step, TokenIds
from model_service.backends.torch.engine.packed import PackedEngine
from model_service.backends.torch.engine.store import KVStore
from specfuse.errors import Misconfigured, Overloaded

logger = logging.getLogger(__name__)

_TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 3e-2}
_COARSE_TOLERANCE = 1e-1
_SHORT_CONTEXT = 24
_LONG_CONTEXT = 192


@dataclass(frozen=True, slots=True)
class CacheBudget:
    """The bytes that cached contexts may take, and who is told (bytes used, contexts)."""

    nbytes: int
    on_change: Callable[[int, int], None]


class Unsuitable(Exception):
    """Why an engine cannot run a model."""


@torch.inference_mode()
def engine_for(model: PreTrainedModel, budget: CacheBudget, *, compiled: bool = False) -> Engine:
    """The best engine that gives this model's own numbers.

    If `compiled`, the packed engine compiles the model if possible here; that takes minutes.

    Raises:
        Misconfigured: none does.
    """
    trial = _Trial(model)
    usual = model.config._attn_implementation  # noqa: SLF001
    try:
        layout = _layout(model)
        if compiled:
            with suppress(Unsuitable):
                return _compiled(model, layout, budget, trial)
        return _packed(model, layout, budget, trial)
    except Unsuitable as reason:
        logger.warning("scoring on cache copies, one candidate at a time: %s", reason)
        model.set_attn_implementation(usual)
        return _copies(model, budget, trial)


def _packed(
    model: PreTrainedModel, layout: KVLayout, budget: CacheBudget, trial: _Trial
) -> PackedEngine:
    store = KVStore(layout, budget.nbytes, budget.on_change)
    engine = PackedEngine(model, store)
    trial.check(engine)
    store.clear()
    return engine


def _compiled(
    model: PreTrainedModel, layout: KVLayout, budget: CacheBudget, trial: _Trial
) -> PackedEngine:
    plain_forward = model.forward
    model.set_attn_implementation(COMPILED_IMPLEMENTATION)
    model.forward = torch.compile(plain_forward, dynamic=True, options=_compilation(layout.device))
    try:
        return _packed(model, layout, budget, trial)
    except Unsuitable as reason:
        logger.warning("running without torch.compile: %s", reason)
        model.forward = plain_forward
        model.set_attn_implementation(IMPLEMENTATION)
        raise


def _compilation(device: torch.device) -> dict[str, str | int | bool | Callable[..., object]]:
    """On a CUDA device, what lies between two layers' attention is captured as graphs, by size.

    A decoding step there launches hundreds of small kernels, which takes longer than they do.
    """
    return {"triton.cudagraphs": device.type == "cuda", "graph_partition": True}


def _copies(model: PreTrainedModel, budget: CacheBudget, trial: _Trial) -> Engine:
    last: Unsuitable | None = None
    for caches in (True, False):
        engine = CopiesEngine(model, budget.nbytes, budget.on_change, caches_prefixes=caches)
        try:
            trial.check(engine)
            engine.clear()
        except Unsuitable as reason:
            last = reason
            logger.warning("computing every context anew: %s", reason)
        else:
            return engine
    raise Misconfigured(f"torch.model: no way of running the model works: {last}")


def _layout(model: PreTrainedModel) -> KVLayout:
    """What the packed engine has to keep. From here on the model uses this package's attention."""
    config = model.config.get_text_config()
    try:
        model.set_attn_implementation(IMPLEMENTATION)
    except ValueError as error:
        raise Unsuitable("its attention cannot be replaced") from error
    if model.config._attn_implementation != IMPLEMENTATION:  # noqa: SLF001
        raise Unsuitable("its attention cannot be replaced")
    found = _inspected(model)
    layers = range(config.num_hidden_layers)
    if found.repeated or sorted(found.keys) != list(layers):
        raise Unsuitable("not every layer has attention of its own")
    if [found.windows[layer] for layer in layers] != _windows(config):
        raise Unsuitable("its layers look back in an unknown way")
    if len({found.keys[i].dtype for i in layers} | {found.values[i].dtype for i in layers}) > 1:
        raise Unsuitable("its layers differ in precision")
    shapes = (
        LayerShape(found.keys[i].shape[0], found.keys[i].shape[-1], found.values[i].shape[-1])
        for i in layers
    )
    return KVLayout(tuple(shapes), found.keys[0].dtype, found.keys[0].device)


def _inspected(model: PreTrainedModel) -> Inspection:
    inspection = Inspection()
    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    positions = torch.arange(2, device=model.device)[None]
    try:
        with attention_by(inspection):
            model(input_ids=ids, position_ids=positions, use_cache=False)
    except Exception as error:
        raise Unsuitable(f"its forward pass raised {type(error).__name__}") from error
    return inspection


def _windows(config: PretrainedConfig) -> list[int | None]:
    """How far each layer looks back, by the model's configuration."""
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return [window] * config.num_hidden_layers
    known = {"full_attention": None, "sliding_attention": window}
    if not set(kinds) <= known.keys():
        raise Unsuitable("it has layers other than full and sliding-window attention")
    return [known[kind] for kind in kinds]


class _Trial:
    """A made-up context, alternatives after it, and what the model itself says of them."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        window = getattr(config, "sliding_window", None) or 0
        length = window + 8 if 0 < window < _LONG_CONTEXT else _SHORT_CONTEXT
        drawn = torch.randint(
            config.vocab_size, (length + 16,), generator=torch.Generator().manual_seed(0)
        )
        ids: TokenIds = tuple(drawn.tolist())
        self._context = ids[:length]
        self._branches = (ids[length : length + 6], ids[length + 6 : length + 9], ids[-4:])
        self._own = [_plain(model, self._context, branch) for branch in self._branches]
        self._tolerance = _TOLERANCES.get(model.dtype, _COARSE_TOLERANCE)

    def check(self, engine: Engine) -> None:
        """Runs the trial on an engine.

        Raises:
            Unsuitable: the engine failed, or its numbers differ from the model's own.
            Misconfigured: there is not even enough memory for this.
        """
        try:
            self._feed_and_branch(engine)
            self._take_up_and_draft(engine)
        except Unsuitable:
            raise
        except Overloaded as error:
            raise Misconfigured(
                f"torch.kv_cache_bytes: too little for the first {len(self._context)} tokens; "
                f"{error.message}"
            ) from error
        except Exception as error:
            reason = str(error).partition("\n")[0]  # a compiler's goes on for pages
            raise Unsuitable(f"a trial raised {type(error).__name__}: {reason}") from error

    def _feed_and_branch(self, engine: Engine) -> None:
        first, second = engine.open(self._context), engine.open(self._context[:-3])
        half = len(self._context) // 2
        _run(engine, Step(first, ingest=half), Step(second, ingest=half - 2))
        rows, _ = _run(
            engine,
            Step(first, ingest=first.missing, branches=self._branches),
            Step(second, ingest=second.missing),
        )
        start = 1
        for branch, own in zip(self._branches, self._own, strict=True):
            self._compare(rows.logprobs[0], own[0])
            self._compare(rows.logprobs[start : start + len(branch)], own[1:])
            start += len(branch)
        first.close()
        second.close()

    def _take_up_and_draft(self, engine: Engine) -> None:
        branch, own = self._branches[0], self._own[0]
        lease = engine.open(self._context + branch[:3])
        if lease.missing:
            _run(engine, Step(lease, ingest=lease.missing))
        lease.begin_draft(3)
        for at in (3, 4):
            (rows,) = _run(engine, Step(lease, draft=(branch[at],)))
            self._compare(rows.logprobs[0], own[1 + at])
        lease.close()

    def _compare(self, found: torch.Tensor, own: torch.Tensor) -> None:
        error = float((found - own).abs().mean(-1).max())
        if not error <= self._tolerance:
            raise Unsuitable(f"log-probabilities differ by {error:.2g} from the model's own")


def _plain(model: PreTrainedModel, context: TokenIds, branch: TokenIds) -> torch.Tensor:
    """The model's own log-probabilities after the context and after each token of a branch."""
    wanted = 1 + len(branch)
    known = signature(model.forward).parameters
    logits: torch.Tensor = model(
        input_ids=torch.tensor([context + branch], device=model.device),
        use_cache=False,
        **({"logits_to_keep": wanted} if "logits_to_keep" in known else {}),
    ).logits[0]
    return torch.log_softmax(logits[-wanted:].float(), -1)


def _run(engine: Engine, *steps: Step) -> list[Rows]:
    outcomes = engine.run(steps)
    for outcome in outcomes:
        if not isinstance(outcome, Rows):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Rows)]
