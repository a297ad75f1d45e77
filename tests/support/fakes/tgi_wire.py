"""The messages of text-generation-inference's router, as its OpenAPI document has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["length", "eos_token", "stop_sequence"]


class Message(BaseModel):
    """Numbers are numbers; fields that are not known are ignored, as the router does."""

    model_config = ConfigDict(strict=True, frozen=True)


class Parameters(Message):
    do_sample: bool = False
    details: bool = False
    decoder_input_details: bool = False
    return_full_text: bool | None = None
    max_new_tokens: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] | None = None
    stop: list[str] = []


class GenerateRequest(Message):
    inputs: str
    parameters: Parameters = Parameters(do_sample=True)


class PrefillToken(Message):
    id: int
    text: str
    logprob: float | None


class Token(Message):
    id: int
    text: str
    logprob: float | None
    special: bool


class Details(Message):
    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]


class GenerateResponse(Message):
    generated_text: str
    details: Details | None


class SimpleToken(Message):
    id: int
    text: str
    start: int
    stop: int


class Info(Message):
    model_id: str
    model_sha: str | None
    model_pipeline_tag: str | None = "text-generation"
    max_concurrent_requests: int
    max_best_of: int = 2
    max_stop_sequences: int = 4
    max_input_tokens: int
    max_total_tokens: int
    validation_workers: int = 2
    max_client_batch_size: int = 4
    router: str = "text-generation-router"
    version: str = "3.3.7"
    sha: str | None = None
    docker_label: str | None = None


class ErrorResponse(Message):
    error: str
    error_type: str
