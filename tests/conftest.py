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
import torch

# beartype draws which item of a list it looks at: from a generator of its own, for tests watch the
# process's.
_getrandbits, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
import checked  # noqa: E402

random.getrandbits = _getrandbits

HOUSE = Path(__file__).parents[1] / "src" / "hesse"
SOURCES = {
    ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path.read_text()
    for path in sorted(HOUSE.rglob("*.py"))
}

# Before anything imports hesse.
checked.install()

# What a module names in annotations alone is put there, so that it can be checked: importing it
# would close a circle.
for name, source in SOURCES.items():
    for node in ast.parse(source).body if "if TYPE_CHECKING:" in source else ():
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(
                compile(ast.Module(node.body, []), name, "exec"),
                vars(importlib.import_module(name)),
            )

# What is kept of this machine is not the user's.
_CACHE = tempfile.TemporaryDirectory(prefix="hesse-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(
        max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole", action="store_true", help="all rows of the tables of which some are run else"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the longest tables some rows, always the same: all of them take half as long again. Who
    asks for a test by name has all of its rows."""
    if config.getoption("whole") or config.option.keyword or "::" in "".join(config.args):
        return

    def is_left_out(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("some")
        if marker is None:
            return False
        return zlib.crc32(item.nodeid.encode()) % marker.kwargs["of"] > 0

    left_out = [item for item in items if is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not is_left_out(item)]


def pytest_collection_finish() -> None:
    """What the modules hold is there to the end: a collector that walks it again and again takes an
    eighth of the run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


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
    return (
        torch.overrides._get_current_function_mode_stack(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._functorch.get_dynamic_layer_stack_depth(),  # type: ignore[attr-defined]
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
    )
