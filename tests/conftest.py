"""For the whole run: every annotation in hesse is checked as it is called, and workers share the
cores."""

import ast
import gc
import importlib
import os
import random
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from browsing import browser as browser

# Workers share the cores, with what they start too: threads that wait for a core spin meanwhile.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# Workers find the tests of an earlier run compiled, and the processes that tests start find hesse.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# beartype draws which item of a list it looks at: from a generator of its own, for tests watch the
# process's.
_getrandbits, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
import checked  # noqa: E402

random.getrandbits = _getrandbits

# The same examples in every run; others are a script's, `derivation/ways.py`.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

HOUSE = Path(__file__).parents[1] / "src" / "hesse"

# Before anything imports hesse.
checked.install()

# What is kept of this machine is not the user's.
_CACHE = tempfile.TemporaryDirectory(prefix="hesse-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


def pytest_configure(config: pytest.Config) -> None:
    """What a module names in annotations alone is put there, so that it can be checked: importing
    it would close a circle. The process that only hands tests to workers needs nothing of this."""
    if config.getoption("numprocesses", None):
        return
    # Until all tests are found nothing is thrown away: what walks it all takes a fifth of that.
    gc.disable()
    for path in sorted(HOUSE.rglob("*.py")):
        source = path.read_text()
        name = ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts)
        for node in ast.parse(source).body if "if TYPE_CHECKING:" in source else ():
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                exec(
                    compile(ast.Module(node.body, []), name, "exec"),
                    vars(importlib.import_module(name.removesuffix(".__init__"))),
                )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole",
        action="store_true",
        help="all rows of the tables of which some are run else, and all that take long",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not (config.getoption("whole") or config.option.keyword or "::" in "".join(config.args)):
        leave_out(config, items)
    bring_together(items)


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the longest tables some rows, always the same, and none that take long. Who asks for a
    test by name has all of its rows."""

    def is_left_out(item: pytest.Item) -> bool:
        if item.get_closest_marker("whole") is not None:
            return True
        marker = item.get_closest_marker("some")
        if marker is None:
            return False
        return zlib.crc32(item.nodeid.encode()) % marker.kwargs["of"] > 0

    left_out = [item for item in items if is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not is_left_out(item)]


def bring_together(items: list[pytest.Item]) -> None:
    """First what is asked of the tables of cases and of expressions, row by row: one worker is
    given neighbours, so that it alone captures the row's cost, or derives it."""
    from cases import CASES
    from derivation import expressions

    rows = [*map(str, CASES), *(case.name.replace(" ", "-") for case in expressions.CASES)]
    places = {row: place for place, row in enumerate(rows)}

    def place(item: pytest.Item) -> int:
        return places.get(getattr(getattr(item, "callspec", None), "id", ""), len(places))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What the modules hold is there to the end: a collector that walks it again and again takes an
    eighth of the run."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True)
def small_for_large(request: pytest.FixtureRequest) -> Iterator[None]:
    """The networks of most tests are small, and stand for large ones; also where a test undoes
    what it patched."""
    import forced

    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("small") is None:
            forced.contracted(patch)
        yield


@pytest.fixture(autouse=True)
def thread_left_as_it_was() -> Iterator[None]:
    """A mode of PyTorch that stays on the thread changes the numbers of every later test."""
    before = surroundings_of_the_thread()
    yield
    assert surroundings_of_the_thread() == before


def surroundings_of_the_thread() -> tuple[object, ...]:
    """Asked of PyTorch alone, never of hesse."""
    import torch  # not by the process that only hands tests to workers

    return (
        torch.overrides._get_current_function_mode_stack(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._functorch.get_dynamic_layer_stack_depth(),  # type: ignore[attr-defined]
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
    )
