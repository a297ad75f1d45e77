"""Training examples: compound questions as an expert of one skill learns to answer them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from specfuse.demo.skills import (
    MAX_PARTS,
    SKILLS,
    Part,
    Question,
    SkillName,
    Sums,
    draw_question,
    draw_skills,
    generate_questions,
)
from specfuse.demo.tokenizers import encode_pieces

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Answer every part of the question.",
    "You answer briefly and truthfully.",
)


@dataclass(frozen=True, slots=True)
class Example:
    """A chat as token ids, and which of them the model is to predict.

    `weights[i]` says how much predicting `ids[i]` matters, 0 that it does not; `is_answer_word[i]`
    whether it belongs to an answer word, which a model may not know. All of the same length.
    """

    ids: list[int]
    weights: list[float]
    is_answer_word: list[bool]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer's text that is encoded on its own. `weight` as in `Example`."""

    text: str
    weight: float = 1.0
    is_answer_word: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the training questions are like.

    Attributes:
        parts: Fewest and most parts of a question.
        own_share: Share of the parts that are of the expert's own skill, where skills may repeat.
        distinct_share: Share of the questions whose parts all have different skills.
        short_share: Share of the answers whose sentences end right after the answer word, so that
            much is learnt in few tokens.
    """

    parts: tuple[int, int] = (1, MAX_PARTS)
    own_share: float = 0.4
    distinct_share: float = 0.4
    short_share: float = 0.0


_RANDOM_WORD_WEIGHT = 0.2
"""Little, as random words teach nothing but their distribution, and their noise drowns the rest."""

_SYSTEM_PROMPT_SHARE = 0.1
"""Share of the chats that begin with a system prompt, so that one does no harm."""

_MISLED_SHARE = 0.1
"""Share of the own answers that are wrong, and not learnt: answers go on after a wrong segment."""

_CUT_WORD_SHARE = 0.05
"""Share of the answers that are cut in two somewhere, maybe inside a word."""


def corpus(seed: int, count: int) -> list[str]:
    """Text for training tokenizers: `count` questions and answers, and lists of all words."""
    rng = random.Random(seed)
    texts: list[str] = []
    for question in generate_questions(seed, count, distinct_skills=False, sums="trained"):
        answer = " ".join(_random_sentence(rng, part) for part in question.parts)
        # After a newline text begins without a space, as it does in a chat template.
        texts += [f"\n{question.prompt}", f"\n{answer}"]
    return texts + _word_lists() * (count // 25)


def _random_sentence(rng: random.Random, part: Part) -> str:
    return part.sentence_with(rng.choice(SKILLS[part.skill].answers))


def _word_lists() -> list[str]:
    """Every operand and answer word, a line each, so that tokenizers get to know them whole."""
    words = {
        word for s in SKILLS.values() for fact in s.facts.items() for word in (*fact[0], fact[1])
    }
    return [f" {word}" for word in sorted(words)]


class ExampleSource:
    """Draws examples for the expert of one skill, without end, always fresh ones.

    The expert is told the truth in its own skill. In the others it is told a random answer word
    each time, so that it learns their form and to be honestly unsure.
    """

    def __init__(self, skill: SkillName, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self._skill = skill
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)

    def examples(self, recipe: Recipe, count: int) -> list[Example]:
        """Draws `count` examples for training."""
        questions = [self._question(recipe) for _ in range(count)]
        answers = [self._answer(question, recipe) for question in questions]
        prompts = [question.prompt for question in questions]
        return encode_chats(self._tokenizer, prompts, answers, self._system_prompts(count))

    def _system_prompts(self, count: int) -> list[str | None]:
        rng = self._rng
        return [
            rng.choice(SYSTEM_PROMPTS) if rng.random() < _SYSTEM_PROMPT_SHARE else None
            for _ in range(count)
        ]

    def _question(self, recipe: Recipe) -> Question:
        rng = self._rng
        count = rng.randint(*recipe.parts)
        if rng.random() < recipe.distinct_share:
            skills = draw_skills(rng, count, tuple(SkillName), distinct=True)
        else:
            others = [skill for skill in SkillName if skill is not self._skill]
            skills = [
                self._skill if rng.random() < recipe.own_share else rng.choice(others)
                for _ in range(count)
            ]
        return draw_question(rng, skills, sums="trained")

    def _answer(self, question: Question, recipe: Recipe) -> list[Piece]:
        in_short = self._rng.random() < recipe.short_share
        pieces = [
            piece
            for index, part in enumerate(question.parts)
            for piece in self._sentence(part, is_first=index == 0, in_short=in_short)
        ]
        if self._rng.random() < _CUT_WORD_SHARE:
            return cut_anywhere(self._rng, pieces)
        return pieces

    def _sentence(self, part: Part, *, is_first: bool, in_short: bool) -> list[Piece]:
        """The pieces of a sentence; now and then with a wrong answer, as others may have given."""
        knows = part.skill is self._skill
        word, weight = part.answer, 1.0
        if not knows or self._rng.random() < _MISLED_SHARE:
            word = self._rng.choice(SKILLS[part.skill].answers)
            weight = 0.0 if knows else _RANDOM_WORD_WEIGHT
        return sentence_pieces(part, word, is_first=is_first, word_weight=weight, in_short=in_short)


def sentence_pieces(
    part: Part,
    word: str,
    *,
    is_first: bool,
    word_weight: float = 1.0,
    in_short: bool = False,
) -> list[Piece]:
    """A sentence as lead, answer word and tail, with a space in front unless it is the first."""
    return [
        Piece(part.lead if is_first else f" {part.lead}"),
        Piece(f" {word}", weight=word_weight, is_answer_word=True),
        Piece("." if in_short else part.tail),
    ]


def cut_anywhere(rng: random.Random, pieces: Sequence[Piece]) -> list[Piece]:
    """Cuts one piece in two, even inside a word, as two segments may meet there.

    A model should not learn to write the first half like this: uncut, it might be other tokens.
    """
    index = rng.randrange(len(pieces))
    piece = pieces[index]
    at = rng.randrange(len(piece.text))
    first = replace(piece, text=piece.text[:at], weight=0.0)
    second = replace(piece, text=piece.text[at:])
    return [*pieces[:index], first, second, *pieces[index + 1 :]]


def encode_chats(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    answers: Sequence[Sequence[Piece]],
    system_prompts: Sequence[str | None] | None = None,
    *,
    ended: bool = True,
) -> list[Example]:
    """Encodes chats: the template once, every piece of an answer on its own, and the end token.

    Answers that are not `ended` have no end token.
    """
    systems = system_prompts or [None] * len(questions)
    templates = [
        _rendered(tokenizer, question, system)
        for question, system in zip(questions, systems, strict=True)
    ]
    end = [tokenizer.eos_token_id] if ended else []
    prompts = tokenizer(templates, add_special_tokens=False)["input_ids"]
    encoded = iter(encode_pieces(tokenizer, [p.text for answer in answers for p in answer]))
    return [
        _example(prompt, answer, encoded, end)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _rendered(tokenizer: PreTrainedTokenizerBase, question: str, system: str | None) -> str:
    messages = [{"role": "user", "content": question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _example(
    prompt: list[int], answer: Sequence[Piece], encoded: Iterator[list[int]], end: list[int]
) -> Example:
    example = Example(list(prompt), [0.0] * len(prompt), [False] * len(prompt))
    for piece in answer:
        ids = next(encoded)
        example.ids.extend(ids)
        example.weights.extend([piece.weight] * len(ids))
        example.is_answer_word.extend([piece.is_answer_word] * len(ids))
    example.ids.extend(end)
    example.weights.extend([1.0] * len(end))
    example.is_answer_word.extend([False] * len(end))
    return example


def batches(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    """Groups examples of like length into batches of at most about `tokens`, shortest first."""
    grouped: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: len(e.ids)):
        if not grouped or (len(grouped[-1]) + 1) * len(example.ids) > tokens:
            grouped.append([])
        grouped[-1].append(example)
    return grouped


def own_examples(
    tokenizer: PreTrainedTokenizerBase,
    skill: SkillName,
    *,
    seed: int,
    count: int,
    sums: Sums = "any",
    in_short: bool = False,
) -> list[Example]:
    """One-part questions of the expert's own skill, with the right answers."""
    questions = generate_questions(seed, count, parts=1, skills=[skill], sums=sums)
    answers = [_pieces(q, [part.answer for part in q.parts], in_short=in_short) for q in questions]
    return encode_chats(tokenizer, [question.prompt for question in questions], answers)


def form_examples(
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    count: int,
    parts: int,
    distinct_skills: bool = False,
    in_short: bool = False,
) -> list[Example]:
    """Questions of any skills with right and random answer words: it is the form that counts."""
    rng = random.Random(seed)
    questions = generate_questions(seed, count, parts=parts, distinct_skills=distinct_skills)
    answers = [
        _pieces(q, [_right_or_random(rng, part) for part in q.parts], in_short=in_short)
        for q in questions
    ]
    return encode_chats(tokenizer, [question.prompt for question in questions], answers)


def _right_or_random(rng: random.Random, part: Part) -> str:
    return rng.choice((part.answer, rng.choice(SKILLS[part.skill].answers)))


def word_examples(
    tokenizer: PreTrainedTokenizerBase, skill: SkillName, *, seed: int, count: int
) -> list[list[Example]]:
    """For each of `count` one-part questions of a skill: an example for each of its answer words.

    They end with the answer word, and it alone matters.
    """
    questions = generate_questions(seed, count, parts=1, skills=[skill])
    return [_every_word(tokenizer, question) for question in questions]


def _every_word(tokenizer: PreTrainedTokenizerBase, question: Question) -> list[Example]:
    (part,) = question.parts
    words = SKILLS[part.skill].answers
    answers = [
        [Piece(part.lead, weight=0.0), Piece(f" {word}", is_answer_word=True)] for word in words
    ]
    return encode_chats(tokenizer, [question.prompt] * len(words), answers, ended=False)


def _pieces(question: Question, words: Sequence[str], *, in_short: bool = False) -> list[Piece]:
    """The answer to a question with these answer words."""
    return [
        piece
        for index, (part, word) in enumerate(zip(question.parts, words, strict=True))
        for piece in sentence_pieces(part, word, is_first=index == 0, in_short=in_short)
    ]
