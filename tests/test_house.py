"""The house: no circle among imports, late ones too; no name hides a module; no room with more
files than one can overlook."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hesse

HOUSE = Path(hesse.__file__).parent
MOST = 20


def modules() -> dict[str, Path]:
    """Every module of hesse by its dotted name."""
    named = {}
    for path in HOUSE.rglob("*.py"):
        parts = path.relative_to(HOUSE.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of hesse that a file imports when it runs, in functions too; not those for
    annotations alone."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                yield child
                yield from walk(child)

    for node in walk(ast.parse(path.read_text())):
        named = []
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names if alias.name in known]
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [name if name in known else node.module for name in named]
        for name in named:
            # A module in a package runs the package first; hesse itself is always there.
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(2, len(parts) + 1))


def test_imports_have_no_circle() -> None:
    named = modules()
    graph = {
        name: {found for found in imported(path, set(named)) if found in named}
        for name, path in named.items()
    }
    for (
        name,
        found,
    ) in graph.items():  # what a package imports of its own is not held against its modules
        found -= {name, *(".".join(name.split(".")[:end]) for end in range(1, name.count(".") + 1))}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_no_name_hides_a_module() -> None:
    packages = [
        hesse,
        *(
            importlib.import_module(i.name)
            for i in pkgutil.walk_packages(hesse.__path__, "hesse.")
            if i.ispkg
        ),
    ]
    hidden = [
        f"{package.__name__}.{below.name}"
        for package in packages
        for below in pkgutil.iter_modules(package.__path__)
        if not inspect.ismodule(getattr(package, below.name, package))
    ]
    assert not hidden


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in HOUSE.rglob("*.py")}), ids=lambda folder: folder.name
)
def test_a_folder_can_be_overlooked(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST


# The rooms of derivation, the lowest first: data below the faces that print it.
DERIVATION = ["calculus", "lines", "check", "code", "sources", "show"]


@pytest.mark.parametrize("room", DERIVATION)
def test_a_room_of_derivation_uses_those_below_it(room: str) -> None:
    named = modules()
    below = DERIVATION[: DERIVATION.index(room) + 1]
    for name, path in named.items():
        if name.startswith(f"hesse.derivation.{room}."):
            used = {
                part.split(".")[2] for part in imported(path, set(named)) if part.count(".") > 1
            }
            assert used & {*DERIVATION, "derive", "derivation"} <= {*below}, name
