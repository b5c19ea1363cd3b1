"""Pictures are drawn without a window, and none stays open."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _headless() -> Iterator[None]:
    matplotlib = pytest.importorskip("matplotlib")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = matplotlib.get_backend()
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")
    pyplot.switch_backend(before)
