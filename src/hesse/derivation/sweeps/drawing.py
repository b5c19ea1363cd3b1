"""The picture of a computation: one SVG, readable by itself and stepped through on a page."""

import unicodedata
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from torch import Tensor

from hesse.derivation.sweeps.computation import SWEEPS, Computation, Step
from hesse.derivation.sweeps.nodes import Node
from hesse.derivation.sweeps.numbers import line_of_numbers
from hesse.derivation.sweeps.placement import Point, placement
from hesse.errors import printable

# Of the fixed-width font that all of it is written in.
_SIZE, _LINE, _LETTER = 13, 18, 7.9
_PADDING, _MARGIN = 9, 12
_LEGEND, _LEGEND_WIDTH = 52, 340
_LONGEST = 46  # letters of a line; all of it is in the node's title
_NUMBERS, _DIGITS = 4, 3  # of an array that is written out in a node

_STYLE = """
.computation { --paper: #fcfcfa; --ink: #1b1f24; --edge: #767e8a; --box: #f1f2f4; --given: #e3f0fa;
  --s0: #1b1f24; --s1: #a03c00; --s2: #00568f; --s3: #7a1fa2; }
@media (prefers-color-scheme: dark) { .computation { --paper: #15181c; --ink: #e6e8ea;
  --edge: #8b949e; --box: #1e2329; --given: #12293b;
  --s0: #e6e8ea; --s1: #ffae7a; --s2: #74bdf5; --s3: #d6a4f2; } }
.computation { background: var(--paper); }
.computation text { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; fill: var(--ink); white-space: pre; }
.computation rect { fill: var(--box); stroke: var(--edge); stroke-width: 1; }
.computation .parameter rect { fill: var(--given); }
.computation .data rect { fill: var(--paper); stroke-dasharray: 4 3; }
.computation .cost rect { stroke: var(--ink); stroke-width: 2; }
.computation path { fill: none; stroke: var(--edge); stroke-width: 1.4; }
.computation marker path { fill: var(--edge); stroke: none; }
.computation .operation { font-weight: 700; }
.computation .s0 { fill: var(--s0); } .computation .s1 { fill: var(--s1); }
.computation .s2 { fill: var(--s2); } .computation .s3 { fill: var(--s3); }
"""


def svg(found: Computation, title: str) -> str:
    """The graph with the numbers of all four sweeps.

    Nodes are groups of class ``node``, numbered in ``data-node``; what a step computes has the
    number of the step in ``data-step``, and an edge the nodes that it joins in ``data-from`` and
    ``data-to``.

    Args:
        found: what is drawn.
        title: what it is of.

    Examples:
        >>> from hesse.derivation.sources.language import program
        >>> from hesse.derivation.sweeps.computation import computation
        >>> from hesse.derivation.sweeps.subject import at_random
        >>> found = computation(at_random(*program("1/2*sum((y - W @ x)**2)", "W")))
        >>> svg(found, "Least squares").startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        True
    """
    return _Drawing(found, title).text()


class _Drawing:
    """A computation on its way to a picture."""

    def __init__(self, found: Computation, title: str) -> None:
        self.found, self.title = found, title
        self.number = {node.name: k for k, node in enumerate(found.nodes)}
        self.steps: dict[str, list[tuple[int, Step]]] = {name: [] for name in self.number}
        for k, step in enumerate(found.steps):
            self.steps[step.node].append((k, step))
        self.lines = {node.name: list(self._lines(node)) for node in found.nodes}
        sizes = {
            name: (
                max(_length(text) for text, *_ in lines) * _LETTER + 2 * _PADDING,
                len(lines) * _LINE + 2 * _PADDING,
            )
            for name, lines in self.lines.items()
        }
        self.sizes = sizes
        self.placed = placement({node.name: node.inputs for node in found.nodes}, sizes)

    def _lines(self, node: Node) -> Iterator[tuple[str, str, int | None]]:
        """What stands in a node: text, class, and the step that it is of."""
        if node.name in self.found.given:
            yield _with_numbers(node.symbol, self.found.given[node.name]), "s0", None
        else:
            yield _clipped(node.line), "operation", None
        for k, step in self.steps[node.name]:
            yield _with_numbers(step.symbol, step.value), f"s{step.sweep}", k

    def text(self) -> str:
        x, y = _MARGIN, _MARGIN + _LEGEND
        width = max(self.placed.width, _LEGEND_WIDTH) + 2 * x
        height = self.placed.height + y + _MARGIN
        root = ElementTree.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "class": "computation",
                "viewBox": f"0 0 {width:.0f} {height:.0f}",
                "width": f"{width:.0f}",
                "height": f"{height:.0f}",
                "role": "img",
                "aria-labelledby": "computation-title computation-about",
            },
        )
        _add(root, "title", self.title, id="computation-title")
        _add(root, "desc", self._about(), id="computation-about")
        _add(root, "style").text = _STYLE
        marker = {"id": "computation-arrow", "viewBox": "0 0 8 8", "refX": "7", "refY": "4"}
        marker |= {"markerWidth": "11", "markerHeight": "11", "markerUnits": "userSpaceOnUse"}
        marker |= {"orient": "auto-start-reverse"}
        _add(_add(_add(root, "defs"), "marker", **marker), "path", d="M0 0L8 4L0 8z")
        for k, name in enumerate(SWEEPS):
            column, row = divmod(k, 2)[::-1]
            at = {
                "x": str(x + column * _LEGEND_WIDTH // 2),
                "y": str(_MARGIN + row * _LINE + _SIZE),
            }
            _add(root, "text", f"{k + 1} {name}", **at, **{"class": f"s{k}"})
        graph = _add(root, "g", transform=f"translate({x} {y})")
        for (source, name), points in self.placed.edges.items():
            ends = {"data-from": str(self.number[source]), "data-to": str(self.number[name])}
            arrow = {"marker-end": "url(#computation-arrow)"}
            _add(graph, "path", **{"class": "edge", "d": _curve(points)}, **ends, **arrow)
        for node in self.found.nodes:
            self._draw(graph, node)
        return ElementTree.tostring(root, encoding="unicode")

    def _draw(self, graph: ElementTree.Element, node: Node) -> None:
        (x, y), (width, height) = self.placed.nodes[node.name], self.sizes[node.name]
        place = {"class": f"node {node.role}", "data-node": str(self.number[node.name])}
        left, top = x - width / 2, y - height / 2
        group = _add(graph, "g", transform=f"translate({left:.1f} {top:.1f})", **place)
        _add(group, "title", node.line)
        _add(group, "rect", width=f"{width:.1f}", height=f"{height:.1f}", rx="7")
        for k, (text, kind, step) in enumerate(self.lines[node.name]):
            at = {"x": str(_PADDING), "y": str(_PADDING + k * _LINE + _SIZE)}
            of_step = {} if step is None else {"data-step": str(step)}
            _add(group, "text", text, **at, **{"class": kind}, **of_step)

    def _about(self) -> str:
        operations = "; ".join(node.line for node in self.found.nodes if node.inputs)
        return f"The computational graph, from what is given down to the cost: {operations}."


def _with_numbers(symbol: str, value: Tensor) -> str:
    line = f"{symbol} = {line_of_numbers(value, _NUMBERS, _DIGITS)}"
    # Half a number would be another number.
    if _length(line) > _LONGEST and value.ndim:
        line = f"{symbol} = {line_of_numbers(value, 0, _DIGITS)}"
    return _clipped(line)


def _add(
    parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag, attributes)
    # Names are the user's; XML has no place for control characters.
    child.text = None if text is None else printable(text)
    return child


def _curve(points: Sequence[Point]) -> str:
    """A line through points that leaves and reaches each of them upright."""
    (x, y), *others = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in others:
        if (to_x, to_y) == (x, y):
            continue  # an arrow at the end of no line has no direction
        middle = (y + to_y) / 2
        parts.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    return "".join(parts)


def _clipped(text: str) -> str:
    return text if _length(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _length(text: str) -> int:
    """Letters that have a place of their own, as an accent has not."""
    return sum(not unicodedata.combining(letter) for letter in text)
