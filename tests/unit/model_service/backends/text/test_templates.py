"""Chat templates give what transformers makes of them, and reach nothing that they should not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerFast

from model_service.backends.text.templates import ChatTemplate
from specfuse.errors import InvalidArgument, Misconfigured
from tests.support.tokenizers import KINDS, kind

TEMPLATES = {
    **{name: str(kind(name).tokenizer.chat_template) for name in KINDS},
    "lines": """
        {%- for message in messages %}
            {%- if message['role'] == 'system' %}
                {{- 'System: ' + message['content'] | trim }}
            {%- else %}
{{ message.role | capitalize }}: {{ message.content }}
            {%- endif %}
        {%- endfor %}
        {% if add_generation_prompt %}
        {{ eos_token }}
        {% endif %}
""",
    "blocks": "{% for m in messages %}\n  {% if loop.first %}{{ bos_token }}{% endif %}\n"
    "  {{ m.content }}\n{% endfor %}\n",
    "loop controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ m.content }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages | tojson(indent=2) }}"
    "{{ messages[0] | tojson(sort_keys=true, separators=(',', ':')) }}"
    "{{ messages[0].content | tojson(ensure_ascii=true) }}",
    "generation": "{% set x = 1 %}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}{% set x = 2 %}{{ m.content }}{{ x }}{% endgeneration %}{{ x }}\n"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "variables": "{% set ns = namespace(seen=0, role='') %}{% for m in messages %}"
    "{% set ns.seen = ns.seen + 1 %}{% set ns.role = m.role %}{% endfor %}{{ ns.seen }}"
    "{{ ns.role }}{{ dict(a=1) | items | list }}{{ dict.fromkeys(['x', 'y'], 0) }}",
    "absent": "{{ tools }}{{ documents is none }}{{ missing }}{{ missing is defined }}"
    "{{ unk_token }}{{ pad_token }}{{ add_generation_prompt }}",
    "macros": "{%- macro turn(m) -%}<{{ m.role }}>{{ m['content'] | replace('a', 'b') }}"
    "{%- endmacro -%}{% for m in messages[::-1] %}{{ turn(m) }}{% endfor %}"
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}",
    "alternating": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}",
}

contents = st.text(st.sampled_from("ab <>&'\"\\\n\té法🙂{}%\u2028"), max_size=12)
conversations = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": contents}
    ),
    min_size=1,
    max_size=5,
)


def theirs(source: str, conversation: list[dict[str, str]]) -> str:
    """What transformers gives."""
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=kind("byte_bpe").tokenizer.backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
    )
    text = tokenizer.apply_chat_template(
        conversation, chat_template=source, tokenize=False, add_generation_prompt=True
    )
    return str(text)


def ours(source: str, conversation: list[dict[str, str]]) -> str:
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}).render(conversation)


def told(render: Any, *arguments: Any) -> object:
    """A text, or what a template refuses a conversation for."""
    try:
        return render(*arguments)
    except (InvalidArgument, TemplateError) as error:
        return str(error.__cause__ or error)


@given(st.sampled_from([*TEMPLATES]), conversations)
@settings(deadline=None, max_examples=300)
def test_a_conversation_becomes_the_text_that_transformers_makes_of_it(
    name: str, conversation: list[dict[str, str]]
) -> None:
    source = TEMPLATES[name]
    assert told(ours, source, conversation) == told(theirs, source, conversation)


def test_the_date_is_that_of_today() -> None:
    source = "{{ strftime_now('%d %B %Y') }}"
    before = theirs(source, [{"role": "user", "content": "?"}])
    found = ours(source, [])
    assert found in (before, theirs(source, [{"role": "user", "content": "?"}]))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update(role='system') }}",
        "{% set ns = namespace(_x=1) %}{{ ns._x }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}{{ ns._x }}",
        "{{ dict.__init__ }}{{ dict.mro() }}",
        "{% for i in range(1000000000) %}{% endfor %}",
    ],
)
def test_what_a_template_must_not_do_is_refused(source: str) -> None:
    conversation = [{"role": "user", "content": "hi"}]
    with pytest.raises((InvalidArgument, OverflowError)):
        ours(source, conversation)
    with pytest.raises((TemplateError, OverflowError)):
        theirs(source, conversation)


@pytest.mark.parametrize("source", ["{% for %}", "{{ a b }}", "{% include 'x' %}{% nonsense %}"])
def test_what_is_no_template_is_refused_at_the_start(source: str) -> None:
    with pytest.raises(Misconfigured, match="the model's chat template is none: "):
        ChatTemplate(source, {})
