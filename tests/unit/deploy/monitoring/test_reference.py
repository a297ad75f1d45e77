"""The page that lists the series."""

from __future__ import annotations

import pytest

from deploy.monitoring import reference


def test_what_is_above_the_marker_stays_and_what_is_below_is_made() -> None:
    page = reference.completed(f"# Mine\n\n{reference.MARKER}\n\nold\n")
    assert page.startswith(f"# Mine\n\n{reference.MARKER}\n\n## Of a fuser\n")
    assert "old" not in page
    assert reference.completed(page) == page


def test_a_page_without_the_marker_is_left_alone() -> None:
    with pytest.raises(ValueError, match="has no line <!-- series -->"):
        reference.completed("# Mine\n")
