"""Every function and method of hesse checks its arguments and its result by their annotations.

What is defined within a function is not: it would be made anew, and checked anew, at every call of
that function.
"""

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

# The tower lets an int stand for a float, as Python's typing does.
CHECKED = beartype(conf=BeartypeConf(is_pep484_tower=True))
# Where shapes are annotated jaxtyping holds those of one call against each other.
SHAPED = jaxtyped(typechecker=CHECKED)
_PRELUDE = """from checked import CHECKED as _checked, SHAPED as _shaped
from typing import Any as _Any"""


class _Decorated(ast.NodeTransformer):
    """Functions and classes of a module, decorated."""

    def __init__(self, shapes: set[str]) -> None:
        self._shapes, self._inside = shapes, False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        arguments = [part.annotation for part in ast.walk(node.args) if isinstance(part, ast.arg)]
        if self._has_shapes([node.returns, *arguments]):
            node.decorator_list.append(_named("_shaped", node))
        elif not self._inside:
            node.decorator_list.append(_named("_checked", node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        within, self._inside = self._inside, True
        self.generic_visit(node)
        self._inside = within
        fields = [part.annotation for part in node.body if isinstance(part, ast.AnnAssign)]
        if self._has_shapes(fields):
            node.decorator_list.insert(0, _named("_shaped", node))
        # The class decorates its methods, those that dataclasses make too.
        node.decorator_list.insert(0, _named("_checked", node))
        return node

    def _has_shapes(self, hints: Sequence[ast.expr | None]) -> bool:
        names = (part for hint in hints if hint is not None for part in ast.walk(hint))
        return any(isinstance(part, ast.Name) and part.id in self._shapes for part in names)


def _named(name: str, node: ast.stmt) -> ast.expr:
    """A name where the statement stands."""
    return ast.copy_location(ast.Name(name, ast.Load()), node)


class _AnyWord(ast.NodeTransformer):
    """Annotations with anything in place of a word: which words there are hesse says itself, in an
    error of its own."""

    def __init__(self, words: set[str]) -> None:
        self._words = words

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return self._annotated(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self._annotated(node)

    def _annotated(self, node: ast.arg | ast.AnnAssign) -> ast.AST:
        for part in ast.walk(node.annotation) if node.annotation else ():
            if isinstance(part, ast.Name) and part.id in self._words:
                part.id = "_Any"
        return node


class _Loader(SourceFileLoader):
    def path_stats(self, path: str) -> Any:
        raise OSError("what is compiled is not what stands in the file")

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:
        tree = ast.parse(data)
        body = tree.body
        words = _imported(body, "hesse.words")
        if words:
            _AnyWord(words).visit(tree)
        shapes = _imported(body, "hesse.words.shapes")
        _with_jaxtyping(body)
        _Decorated(shapes).visit(tree)
        after = 1 if ast.get_docstring(tree) is not None else 0
        body[after:after] = ast.parse(_PRELUDE).body
        return compile(tree, path, "exec", dont_inherit=True)


def _imported(body: list[ast.stmt], module: str) -> set[str]:
    """The names that are imported from a module."""
    return {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


def _with_jaxtyping(body: list[ast.stmt]) -> None:
    """What is a remark to users is a shape to hold against."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module == "hesse.words.shapes":
            node.module = "jaxtyping"


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "hesse":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """From here on, for what is not imported yet."""
    sys.meta_path.insert(0, _Finder())
