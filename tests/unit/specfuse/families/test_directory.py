"""A family's directory, and what is not one."""

from __future__ import annotations

import pytest

from specfuse.errors import Misconfigured
from specfuse.families.directory import DESCRIPTION, described
from specfuse.families.invention import invent


def test_a_family_is_found_where_it_was_written(tmp_path):
    family = invent(4)
    (tmp_path / DESCRIPTION).write_bytes(family.to_json())
    assert described(tmp_path) == family
    assert described(tmp_path, expected=invent(4)) == family


def test_another_family_is_told_of(tmp_path):
    (tmp_path / DESCRIPTION).write_bytes(invent(4).to_json())
    with pytest.raises(Misconfigured, match=rf"has {invent(4).name}, not {invent(5).name}"):
        described(tmp_path, expected=invent(5))


def test_a_broken_description_is_told_of(tmp_path):
    with pytest.raises(Misconfigured, match="cannot be read"):
        described(tmp_path)
    (tmp_path / DESCRIPTION).write_text("{}")
    with pytest.raises(Misconfigured, match="not the description of a family"):
        described(tmp_path)
