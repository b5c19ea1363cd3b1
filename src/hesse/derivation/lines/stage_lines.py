"""The lines of each layer, from the S and D that have been put together; one for "any" layer where
it can stand for all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hesse.derivation.calculus.expression import (
    Apply,
    Entry,
    Expression,
    Partial,
    Parts,
    of,
    rebuilt,
)
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.normal_form import weight
from hesse.derivation.lines.by_layer import Named, Stages
from hesse.derivation.lines.page import BACKWARD, Page
from hesse.derivation.lines.records import Line, Stage
from hesse.derivation.lines.substitution import substituted


def stages(expander: Stages) -> tuple[Stage, ...]:
    """For each layer: what it computes, its δ, its S with itself and with any later layer, and its
    D from any earlier one.

    A line for "any" layer is written for one, and certified for the nearest, the next and the
    farthest.
    """
    page, slots = expander.page, expander.slots
    forward = [q.name for q in page.program.quantities if q.role not in BACKWARD]
    starts = [forward.index(name) for name in slots]
    done: list[Stage] = []
    told: set[tuple[str, int]] = set()
    for place, name in enumerate(slots):
        # What comes before the first layer is shown with it.
        first = 0 if place == 0 else starts[place]
        last = starts[place + 1] if place + 1 < len(slots) else len(forward)
        computed = tuple(forward[first:last])
        pushed = [line for quantity in computed for line in _transport(expander, quantity, place)]
        lines = [_signal(expander, name), *_curvatures(expander, place), *pushed]
        lines.extend(_known_slopes(page, lines, told))
        done.append(
            Stage(
                name,
                computed,
                tuple(replace(line, label=str(k + 1)) for k, line in enumerate(lines)),
            )
        )
    return tuple(done)


def _known_slopes(page: Page, lines: list[Line], told: set[tuple[str, int]]) -> list[Line]:
    """What f' and f'' are, the first time that a known function has them."""
    new = []
    for line in lines:
        # A line for any layer has letters in place of names, which no program knows.
        after = line.instances[0][1] if line.instances else line.after
        written = substituted(after, page.program)
        if written is None:
            continue
        page.program = written.program
        for (factor, _, function), line_for_factor in zip(
            written.replaced, written.lines, strict=True
        ):
            assert isinstance(factor, Apply)
            if (function, factor.order) not in told:
                told.add((function, factor.order))
                new.append(line_for_factor)
    return new


def _signal(expander: Stages, name: str) -> Line:
    quantity = expander.page.program.by_name[expander.signals[name]]
    assert isinstance(quantity.definition, Expression)
    before = of(Partial(expander.page.program.cost.entry, (Entry(name, quantity.indices),)))
    return Line(
        "",
        "δ, pulled down",
        before,
        quantity.definition,
        expander.page.through(name),
        quantity.entry,
    )


def _curvatures(expander: Stages, place: int) -> list[Line]:
    """S of a layer with itself, and with any later layer."""
    name, later = expander.slots[place], expander.slots[place + 1 :]
    signal = expander.signals[name]
    others = [
        line
        for other in dict.fromkeys((*later[:2], *later[-1:]))
        if (line := expander.line(signal, other)) is not None
    ]
    why = f"for every layer m after {name}" if len(later) > 1 else ""
    itself = expander.line(signal, name)
    closed = (
        []
        if itself is None
        else [_line("S, closed", itself, "with itself: its own slope moves too")]
    )
    # Above the nearest stands the closed S of m itself, named by one place: it is not typical.
    return [*_for_any("S, pulled down", others, others[1:] or others, "m", why), *closed]


def _transport(expander: Stages, name: str, place: int) -> list[Line]:
    """D from any earlier layer to a quantity of this one."""
    if expander.page.program.cost.name == name:
        return []
    earlier = expander.slots[:place][::-1]
    others = [
        line
        for other in dict.fromkeys((*earlier[:2], *earlier[-1:]))
        if (line := expander.line(name, other)) is not None
    ]
    # One without a name is put in where it is used, and needs no line.
    named = [line for line in others if line.name is not None]
    return _for_any(
        "D, pushed up", others, named, "l", "for every layer l before" if len(earlier) > 1 else ""
    )


def _for_any(
    rule: str, all_of_them: list[Named], fit: list[Named], letter: str, reason: str
) -> list[Line]:
    """One line that stands for all, written for the longest; where each names its own layer, they
    are written one by one."""
    if not fit:
        return []
    general = [line for line in fit if not line.names_its_layer]
    if not general:
        return [_line(rule, line, "") for line in fit]
    # The longest shows every term that the others have.
    shown = max(general, key=lambda line: (len(line.expression.terms), weight(line.expression)))
    return [_generic(rule, shown, all_of_them, shown.by.name, letter, reason)]


def _line(rule: str, named: Named, reason: str) -> Line:
    return Line(
        "", rule, of(Partial(named.entry, (named.by,))), named.expression, reason, named.name
    )


def _generic(
    rule: str, shown: Named, others: list[Named], layer: str, letter: str, reason: str
) -> Line:
    """The line of one layer, shown for any: its name becomes a letter."""
    line = _line(rule, shown, reason)
    if not reason:
        return line
    instances = tuple(
        (written.before, written.after) for written in (_line(rule, other, "") for other in others)
    )

    def renamed(name: str) -> str:
        if name == layer:
            return f"z_{letter}"
        return str(Name.read(name).any(Name.read(layer).place, letter))

    named = None if line.name is None else Entry(renamed(line.name.name), line.name.indices)
    return replace(
        line,
        before=_relabelled(line.before, renamed),
        after=_relabelled(line.after, renamed),
        name=named,
        instances=instances,
    )


def _relabelled(value: Parts, to: Callable[[str], str]) -> Parts:
    def moved(part: Any) -> Any:
        return (
            Entry(to(part.name), part.indices) if isinstance(part, Entry) else rebuilt(part, moved)
        )

    return rebuilt(value, moved)
