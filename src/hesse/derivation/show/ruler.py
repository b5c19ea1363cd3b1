r"""How wide LaTeX is printed, and where a formula that is too wide goes on in the next row.

Widths are those of Computer Modern at ten points, in points. A formula is cut outside of all
braces: before a sign or between factors, outside of parentheses rather than inside.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_LETTERS = {
    **dict.fromkeys("abcdeghknopqsuvxyz", 5.3), **dict.fromkeys("fijlrt", 4.4), "m": 8.8, "w": 7.2,
    **dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVXYZ", 7.9), "W": 10.6,
    **dict.fromkeys("0123456789", 5.0),
    **dict.fromkeys("()", 3.9), **dict.fromkeys("[]:;.|", 2.8), ",": 4.5, "=": 13.4, "<": 13.4,
    ">": 13.4, **dict.fromkeys("+-", 12.3), "'": 3.0, "/": 5.0,
}  # fmt: skip
_COMMANDS = {
    r"\,": 1.7, r"\;": 2.8, r"\quad": 10.0, r"\sum": 16.1, r"\cdot": 7.3, r"\circ": 9.5, r"\{": 5.0,
    r"\otimes": 12.3, r"\times": 12.3, r"\to": 15.6, r"\mapsto": 15.6, r"\le": 13.4, r"\ge": 13.4,
    r"\ne": 13.4, r"\in": 12.3, r"\prime": 2.8, r"\}": 5.0, r"\Bigl": 3.0, r"\Bigr": 3.0,
    r"\left": 2.5, r"\right": 2.5, r"\infty": 10.0, r"\top": 7.8, r"\partial": 5.9, r"\Phi": 7.3,
    r"\log": 14.5, r"\exp": 17.0, r"\sin": 13.5, r"\cos": 15.5, r"\tan": 16.0, r"\tanh": 22.0,
    r"\sinh": 19.5, r"\cosh": 21.5, r"\arctan": 30.0, r"\det": 15.5, r"\!": -1.7,
}  # fmt: skip
# What takes arguments, and how wide it is with them: the widths of each, as they are printed.
_TAKING = {
    r"\frac": lambda top, bottom: max(top, bottom) + 2.4,
    r"\tfrac": lambda top, bottom: 0.7 * max(top, bottom) + 2.4,
    r"\underset": lambda below, base: max(0.7 * below, base),
    r"\sqrt": lambda inside: inside + 8.4,
    r"\textcolor": lambda colour, inside: inside,
    **dict.fromkeys(
        (r"\underline", r"\underbrace", r"\hat", r"\tilde", r"\bar", r"\dot", r"\ddot", r"\mathbf"),
        lambda inside: inside,
    ),
}
_ARGUMENTS = {
    name: taking.__code__.co_argcount for name, taking in _TAKING.items()
} | dict.fromkeys((r"\texttt", r"\text", r"\operatorname", r"\mathrm"), 1)
_TYPEWRITER, _ROMAN, _GREEK, _SCRIPT = 5.25, 5.1, 5.8, 0.72
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[^\\\s]|\s+")


def _pieces(latex: str) -> list[str]:
    """The formula in tokens that stand outside of all braces, commands with their arguments."""
    pieces, place = [], 0
    while place < len(latex):
        token = _TOKEN.match(latex, place)
        assert token is not None, "every sign is a token"
        begin, place, piece = place, token.end(), token[0]
        count = 1 if piece in ("^", "_") else _ARGUMENTS.get(piece, 0)
        if piece == "{":
            place, count = begin, 1
        for _ in range(count):
            place = _closed(latex, place)
        pieces.append(latex[begin:place])
    return pieces


def _closed(latex: str, place: int) -> int:
    """The place behind the braces that open here."""
    depth = 0
    for sign in re.finditer(r"\\.|[{}]", latex[place:], re.DOTALL):
        depth += (sign[0] == "{") - (sign[0] == "}")
        if depth == 0 and sign[0] in "{}":
            return place + sign.end()
    return len(latex)


def _arguments(piece: str) -> tuple[str, list[str]]:
    """A command, and what stands in each of its braces."""
    name = re.match(r"\\?[A-Za-z]+|[_^]|", piece)
    assert name is not None, "there may be no name"
    inside, place = [], name.end()
    while place < len(piece):
        end = _closed(piece, place)
        inside.append(piece[place + 1 : end - 1])
        place = end
    return name[0], inside


@lru_cache(maxsize=4096)
def width(latex: str) -> float:
    r"""About how wide a formula is printed.

    Examples:
        >>> width("x") < width("x + y") < width(r"\frac{x + y + z}{2}")
        True
    """
    total, under = 0.0, 0.0
    pieces = _pieces(latex)
    for place, piece in enumerate(pieces):
        if piece[0] in "_^":
            script = _SCRIPT * width(piece[2:-1])
            before = pieces[place - 1] if place else ""
            if before == r"\sum" or before.startswith(r"\underbrace"):
                # It stands under, and is only felt where it is the wider one.
                total += max(0.0, script - (16.1 if before == r"\sum" else width(before)))
                continue
            # Above and below stand over each other.
            other = under if place and pieces[place - 1][0] in "_^" else 0.0
            total, under = total + max(0.0, script - other) + 0.5, script
            continue
        total += _width(piece)
    return total


def _width(piece: str) -> float:
    if piece.isspace() or piece == "&":
        return 0.0
    if piece in _COMMANDS:
        return _COMMANDS[piece]
    if len(piece) == 1:
        return _LETTERS.get(piece, 5.0)
    name, inside = _arguments(piece)
    if name in _TAKING:
        return _TAKING[name](*map(width, inside))
    if not inside:
        return _GREEK
    if not name:
        return width(inside[0])
    # A sign that had to be escaped is one, whether or not it has a command of its own.
    signs = re.sub(r"\\text[a-z]+|\\[^A-Za-z]", "x", inside[0])
    letters = len(re.sub(r"\\ensuremath|\\|[{}]", "", signs))
    return letters * (_TYPEWRITER if name == r"\texttt" else _ROMAN) + 1.7 * (
        name == r"\operatorname"
    )


# ---------------------------------------------------------------- rows


@dataclass
class _Break:
    """A place where a formula can be cut: before a piece, which a space between factors is left out
    at; how deep in parentheses, and whether a sign begins the next row."""

    place: int
    depth: int
    sign: bool


def cut(latex: str, room: float, first: float | None = None) -> list[str]:
    r"""A formula in rows.

    Args:
        latex: the formula.
        room: how wide a row can be.
        first: the same of the first row, where something stands before it.

    Examples:
        >>> cut("f(a) \\, (b + c)", 40)
        ['f(a)', '(b + c)']
        >>> cut("x + y", 100)
        ['x + y']
    """
    left = room if first is None else first
    if width(latex) <= left:
        return [latex]
    pieces, rows = [_small(piece, room) for piece in _pieces(latex)], list[str]()
    while width("".join(pieces)) > left:
        at = _best(pieces, left)
        if at is None:
            break
        rows.append("".join(pieces[: at.place]).strip())
        rest = pieces[at.place :]
        pieces = rest[1:] if rest[0] == r"\," else rest
        # A sign at the beginning of a row has no factor before it to stand apart from.
        if at.sign and rest[0] in (r"\otimes", r"\circ", r"\cdot", "+", "-"):
            pieces = ["{}", " ", *pieces]
        left = room
    return _fixed([*rows, "".join(pieces).strip()])


def _small(piece: str, room: float) -> str:
    """A fraction that no row has room for, as of two long names, is a small one."""
    wide = piece.startswith(r"\frac") and width(piece) > room
    return piece.replace(r"\frac", r"\tfrac", 1) if wide else piece


def _best(pieces: list[str], room: float) -> _Break | None:
    """The best place within the room; None where there is none at all."""
    used, best, cost = 0.0, None, (10.0**6, 0.0)
    for found in _breaks(pieces):
        used = width("".join(pieces[: found.place]))
        # Outer parentheses first, then signs, then as far to the right as possible; a first fifth
        # is too little for a row, and what is too wide for it is the last resort.
        short, over = used < room / 5, max(0.0, used - room)
        penalty = (
            2.0 * found.depth + (not found.sign) + 3 * short + 1000 * (over > 0),
            over - used,
        )
        if penalty < cost:
            best, cost = found, penalty
        if over:
            break
    return best


def _breaks(pieces: list[str]) -> list[_Break]:
    breaks, depth, brackets, before = [], 0, 0, ""
    for place, piece in enumerate(pieces):
        if piece.isspace():
            continue
        sign = piece in ("+", "-", r"\otimes", r"\circ", r"\cdot")
        opened = before in ("", "(", "[", r"\{", r"\left", "=", "{}")
        if (sign or piece == r"\,") and not opened and not brackets:
            breaks.append(_Break(place, depth, sign))
        depth += (piece in ("(", r"\{")) - (piece in (")", r"\}"))
        brackets += (piece == "[") - (piece == "]")
        before = piece
    return breaks


def _fixed(rows: list[str]) -> list[str]:
    """Parentheses that close in another row than they open in do not grow with what they hold: they
    are big ones."""
    if len(rows) == 1:
        return rows
    split = [[*_pieces(row)] for row in rows]
    opened: list[tuple[int, int]] = []
    for row, pieces in enumerate(split):
        for place, piece in enumerate(pieces):
            if piece == r"\left":
                opened.append((row, place))
            elif piece == r"\right" and opened:
                begin = opened.pop()
                if begin[0] != row:
                    split[begin[0]][begin[1]], pieces[place] = r"\Bigl", r"\Bigr"
    return ["".join(pieces) for pieces in split]
