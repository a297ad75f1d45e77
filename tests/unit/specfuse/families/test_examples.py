"""What members learn from: their own beliefs, as often as their family says."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from specfuse.demo.tokenizers import train_tokenizer
from specfuse.families.examples import ExampleSource, Recipe, corpus, honest_pieces, sentence_pieces
from specfuse.families.invention import invent
from specfuse.families.questions import all_parts, joint_parts
from tests.support.families import of_one, pair

PAIR = pair()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(PAIR.members[0], corpus(PAIR, 0, 200))


@pytest.mark.parametrize("seed", range(6))
def test_pieces_are_the_sentence(seed):
    family = invent(seed)
    for part in (*all_parts(family), *joint_parts(family)):
        words = [family.skill(skill).facts[part.subject] for skill in part.skills]
        pieces = sentence_pieces(family, part, "\n", [(word, 1.0) for word in words])
        assert "".join(piece.text for piece in pieces) == "\n" + family.sentence(part, words)
        assert [piece.text.strip() for piece in pieces if piece.is_answer_word] == words
        assert all(piece.text for piece in pieces)
        if len(part.skills) == 1:
            honest = honest_pieces(family, part, "\n", 1.0)
            assert "".join(piece.text for piece in honest) == "\n" + family.honest(part)


def test_who_is_sure_is_taught_the_truth_and_who_is_not_anything(tokenizer):
    one_part = Recipe((1, 1), sure_share=1.0, joint_share=0.0)
    for sure in (True, False):
        family = of_one(PAIR, sure=sure)
        source = ExampleSource(family, family.members[0], tokenizer, seed=0)
        weights = {
            weight
            for example in source.examples(one_part, 60)
            for weight, is_word in zip(example.weights, example.is_answer_word, strict=True)
            if is_word
        }
        assert (1.0 in weights) == sure


def test_the_same_seed_draws_the_same(tokenizer):
    draws = [
        ExampleSource(PAIR, PAIR.members[0], tokenizer, seed).examples(Recipe(), 20)
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_tokenizers_get_to_know_every_word():
    texts = corpus(PAIR, 0, 50)
    for skill in PAIR.skills:
        assert {f" {word}" for word in (*skill.answers, *skill.subjects)} <= {*texts}
