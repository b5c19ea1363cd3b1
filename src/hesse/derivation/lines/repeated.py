"""Lines that a network of many steps repeats: those that say the same one step on are written
once, with what they stand for."""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from hesse.derivation.calculus.expression import (
    Apply,
    Count,
    Entry,
    Node,
    Term,
    children,
    own_indices,
)
from hesse.derivation.calculus.program import Program, mentioned
from hesse.derivation.lines.records import Line

FEW = 3  # lines that say the same are written as they are, up to so many less one


def once(lines: Sequence[Line], program: Program) -> tuple[Line, ...]:
    """The lines of a derivation, of ``FEW`` or more that say the same at other steps the first
    alone, and in it the others.

    Two say the same where one becomes the other by other names of quantities and indices; a
    parameter stays what it is.
    """
    alike: dict[Hashable, list[Line]] = {}
    for line in lines:
        alike.setdefault(_shape(line, program), []).append(line)
    kept: dict[int, Line] = {}
    for same in alike.values():
        first, *others = same
        if len(same) >= FEW:
            kept[id(first)] = replace(
                first, reason=_with_others(first, others), likewise=tuple(others)
            )
        else:
            kept |= {id(line): line for line in same}
    return _numbered(kept[id(line)] for line in lines if id(line) in kept)


def _with_others(line: Line, others: Sequence[Line]) -> str:
    """The reason of a line, and what else it holds for."""
    names = list(dict.fromkeys(name for other in others if (name := _subject(other))))
    if not names:
        more = f"and {len(others)} times more"
    else:
        shown = names if len(names) <= FEW else [names[0], names[1], "…", names[-1]]
        more = f"likewise for {', '.join(shown)}"
    return f"{line.reason}; {more}" if line.reason else more


def _subject(line: Line) -> str:
    """The first name on the left: what is differentiated."""
    return next(iter(mentioned(line.before)), "")


def _numbered(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The lines under labels without gaps, each within its branch."""
    done: list[Line] = []
    counts: dict[str, int] = {}
    for branch, some in groupby(lines, key=lambda line: line.label.rstrip("0123456789")):
        for line in some:
            counts[branch] = counts.get(branch, 0) + 1
            done.append(replace(line, label=f"{branch}{counts[branch]}"))
    return tuple(done)


def _shape(line: Line, program: Program) -> Hashable:
    """What lines have in common that say the same at different steps."""
    names: dict[str, int] = {}
    letters: dict[str, int] = {}

    def of(node: Node) -> Hashable:
        over = tuple(
            (letters.setdefault(index.name, len(letters)), index.size)
            for index in own_indices(node)
        )
        match node:
            case Entry(name):
                leaf = program.leaves.get(name)
                if leaf is not None and leaf.role != "constant":
                    return name, over
                return names.setdefault(name, len(names)), re.sub(r"\d+", "", name), over
            case Apply(function, order):
                own: Hashable = (function, order)
            case Term(coefficient, _, _, kind):
                own = (coefficient, kind)
            case Count(size):
                own = size
            case _:
                own = None
        return type(node).__name__, own, over, tuple(map(of, children(node)))

    branch = line.label.rstrip("0123456789")
    return branch, line.rule, of(line.before), of(line.after), line.name is None, len(line.marks)
