"""Published integers and exponents, found again: those of `python -m bench.papers` that are
quick."""

from typing import Any

import pytest

papers = pytest.importorskip("bench.papers", reason="the benches are not part of an sdist")
QUICK = [figure for figure in papers.figures() if figure.quick]


@pytest.mark.parametrize("figure", QUICK, ids=lambda figure: figure.what)
def test_published(figure: Any) -> None:
    assert figure.agrees(figure.found())
