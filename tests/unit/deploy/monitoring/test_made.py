"""What is made is what there is: `make monitoring` writes it."""

from __future__ import annotations

from deploy.monitoring import made


def test_everything_is_as_it_is_made() -> None:
    for path, text in made.files():
        assert path.read_text() == text, f"{path.name} is out of date: run make monitoring"
