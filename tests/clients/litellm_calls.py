"""Asks by LiteLLM and prints, as JSON, what it understood. Runs where LiteLLM is installed.

python litellm_calls.py BASE_URL QUESTION
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import litellm


def main(base: str, question: str) -> None:
    litellm.suppress_debug_info = True  # it would be printed in between
    asked: dict[str, Any] = {
        "model": "openai/all",
        "api_base": base,
        "api_key": "none",
        "messages": [{"role": "user", "content": question}],
        "num_retries": 0,
    }
    whole = litellm.completion(**asked)
    chunks = [*litellm.completion(**asked, stream=True, stream_options={"include_usage": True})]
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    said = {
        "whole": whole.choices[0].message.content,
        "finish_reason": whole.choices[0].finish_reason,
        "completion_tokens": whole.usage.completion_tokens,
        "streamed": "".join(one.choices[0].delta.content or "" for one in chunks if one.choices),
        "streamed_tokens": usages[-1].completion_tokens if usages else None,
        "raw": litellm.text_completion(
            model="text-completion-openai/all",
            api_base=base,
            api_key="none",
            prompt=question,
        )
        .choices[0]
        .text,
        "wrong field": refusal(lambda: litellm.completion(**asked, n=2)),
        "no such model": refusal(lambda: litellm.completion(**{**asked, "model": "openai/none"})),
        "too long": refusal(
            lambda: litellm.completion(
                **{**asked, "messages": [{"role": "user", "content": "word " * 5000}]}
            )
        ),
    }
    sys.stdout.write(json.dumps(said))


def refusal(ask: Callable[[], object]) -> str:
    """The class of the exception that it is for callers of LiteLLM."""
    try:
        ask()
    except Exception as error:  # noqa: BLE001 (its classes have no common base)
        return type(error).__name__
    return "no refusal"


if __name__ == "__main__":
    main(*sys.argv[1:])
