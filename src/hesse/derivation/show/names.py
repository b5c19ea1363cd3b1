"""Names as symbols: ``W1`` is a W with the number 1, ``ŷ`` a y under a hat, ``S2,3`` an S of two
layers, ``0.weight`` a word."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from hesse.derivation.calculus.name import Name
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu",
    "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "varphi",
    "χ": "chi", "ψ": "psi", "ω": "omega", "ϕ": "phi", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta",
    "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi",
    "Ω": "Omega",
}  # fmt: skip
# A name that is spelled out is the letter, in the form that it has in GREEK.
_SPELLED = {name: name for name in GREEK.values()} | {"epsilon": "varepsilon", "phi": "varphi"}
_ACCENTS = {"\u0302": "hat", "\u0303": "tilde", "\u0304": "bar", "\u0307": "dot", "\u0308": "ddot"}
# W1, ŷ, X⁻¹, X1⁻¹2, δ′: the number can stand behind the inverse too.
_SYMBOL = re.compile(
    r"(?P<base>[^\W\d_]+)(?P<number>\d*)(?P<inverse>⁻¹)?(?P<again>\d*)(?P<primes>[′']*)"
)
_ESCAPED = {
    "_": r"\_", "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "<": r"\ensuremath{<}", ">": r"\ensuremath{>}", '"': "''", "`": "'", "→": r"\ensuremath{\to}",
    "×": r"\ensuremath{\times}", "−": r"\ensuremath{-}", "⁻": r"\ensuremath{{}^{-}}",
    "¹": r"\ensuremath{{}^{1}}", "²": r"\ensuremath{{}^{2}}", "′": "'", "…": r"\ldots{}",
    "½": r"\ensuremath{\frac{1}{2}}", "∘": r"\ensuremath{\circ}", "⊗": r"\ensuremath{\otimes}",
    "∂": r"\ensuremath{\partial}", "ᵀ": r"\ensuremath{{}^{\top}}", "Σ": r"\ensuremath{\sum}",
    "·": r"\ensuremath{\cdot}", "⁻ᵀ": r"\ensuremath{{}^{-\top}}", "≤": r"\ensuremath{\le}",
    "≥": r"\ensuremath{\ge}", "≠": r"\ensuremath{\ne}", "√": r"\ensuremath{\sqrt{\;}}",
    "∞": r"\ensuremath{\infty}", "‖": r"\ensuremath{\|}", "∈": r"\ensuremath{\in}", "–": "--",
    "—": "---", "“": "``", "”": "''", "’": "'",
}  # fmt: skip


@dataclass(frozen=True)
class Symbol:
    """A name that can be written as one symbol: letters, an accent, a number, an inverse,
    primes."""

    base: str
    accent: str = ""
    number: str = ""
    inverse: bool = False
    primes: int = 0


@cache
def symbol_of(name: str) -> Symbol | None:
    """A name taken apart; None where it is not letters and a number, as a layer's name is not.

    Examples:
        >>> symbol_of("ŷ3")
        Symbol(base='y', accent='hat', number='3', inverse=False, primes=0)
        >>> symbol_of("layers.0.weight") is None
        True
    """
    inner = re.fullmatch(r"inv\((.*)\)", name)
    # Decomposed, an accent is a character of its own behind its letter.
    plain = unicodedata.normalize("NFD", f"{inner[1]}⁻¹" if inner else name)
    accents = [command for mark, command in _ACCENTS.items() if mark in plain]
    match = _SYMBOL.fullmatch(
        "".join(character for character in plain if character not in _ACCENTS)
    )
    if match is None or (accents and len(match["base"]) > 1):
        return None
    if not all(character.isascii() or character in GREEK for character in match["base"]):
        return None
    number = match["number"] + match["again"]
    return Symbol(
        match["base"], "".join(accents), number, bool(match["inverse"]), len(match["primes"])
    )


def text_name(name: str, indices: Sequence[str] = ()) -> str:
    """A name in Unicode, at some indices: a single one after a low line where the name is a symbol,
    others in brackets.

    Examples:
        >>> text_name("W1", ("o", "i")), text_name("ŷ", ("p",)), text_name("0.bias", ("o",))
        ('W1[o,i]', 'ŷ_p', '0.bias[o]')
        >>> text_name("inv(X)")
        'X⁻¹'
    """
    call = re.fullmatch(r"(\w+)\((.*)\)", name)
    array = ARRAY_FUNCTIONS.get(call[1]) if call is not None else None
    written = (
        array.text.format(call[2])
        if call is not None and array is not None and array.text
        else name
    )
    if not indices:
        return written
    # bias_o would read as a name: only behind a symbol is a low line an index.
    single = len(indices) == 1 and symbol_of(name)
    return f"{written}_{indices[0]}" if single else f"{written}[{','.join(indices)}]"


def escaped(text: str) -> str:
    """Any text as LaTeX in text mode: ASCII, with nothing that is read as a command. Letters that
    LaTeX has no sign for are given by their number.

    Examples:
        >>> escaped("self_attn 50%")
        'self\\\\_attn 50\\\\%'
    """
    return "".join(map(_escaped, unicodedata.normalize("NFC", text)))


def _escaped(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if character.isascii():
        return character if character.isprintable() else " "
    if character in GREEK:
        return rf"\ensuremath{{\{GREEK[character]}}}"
    # An accent of ours is a command; any other letter of Latin script loses its marks.
    letter, *marks = unicodedata.normalize("NFD", character)
    if letter.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\ensuremath{{\{_ACCENTS[marks[0]]}{{{letter}}}}}"
    return letter if letter.isascii() else f"[U+{ord(character):04X}]"


def typewriter(text: str) -> str:
    """A word that is no symbol, in LaTeX."""
    return rf"\texttt{{{escaped(text)}}}"


def latex_name(
    name: str, indices: Sequence[str] = (), word: Callable[[str], str] = typewriter
) -> str:
    r"""A name in LaTeX's math mode, at some indices: a single one as a subscript, several in
    brackets.

    Args:
        name: of a leaf or a quantity.
        indices: their names.
        word: how a name that is no symbol is written.

    Examples:
        >>> latex_name("W1", ("o", "i")), latex_name("ŷ", ("p",)), latex_name("D2→3")
        ('W_{1}[o,i]', '\\hat{y}_{p}', 'D_{2 \\to 3}')
        >>> latex_name("z_m"), latex_name("0.in_proj")
        ('z_{m}', '\\texttt{0.in\\_proj}')
    """
    places = [latex_index(index) for index in indices]
    single = places[0] if len(places) == 1 else ""
    brackets = f"[{','.join(places)}]" if len(places) > 1 else ""
    # Letters with a number: a symbol whose subscript takes the number and a single index.
    symbol = symbol_of(name)
    if symbol is not None:
        letter, below = _letter(symbol, word)
        # The number of what stands below belongs to that: δu1 is of u1.
        number = "" if below else symbol.number
        subscript = ",".join(part for part in (below, number, single) if part)
        above = ("-1" if symbol.inverse else "") + r"\prime" * symbol.primes
        return (
            letter
            + (f"^{{{above}}}" if above else "")
            + (f"_{{{subscript}}}" if subscript else "")
            + brackets
        )
    # x_in: what stands behind the low line is a subscript already.
    under = re.fullmatch(r"([^\W\d_])_([^\W_]+)", name)
    if under:
        subscript = under[2] if under[2].isdigit() else latex_name(under[2], (), word)
        return f"{latex_name(under[1])}_{{{subscript}{f',{single}' if single else ''}}}" + brackets
    # The derivative of a map without a formula, as a fraction; its index has to stand outside.
    read = Name.read(name)
    slope = read.derivative
    if slope:
        of, by = slope
        power = f"^{{{len(by)}}}" if len(by) > 1 else ""
        below = r" \, ".join(rf"\partial {latex_name(variable, (), word)}" for variable in by)
        written = rf"\frac{{\partial{power} {latex_name(of, (), word)}}}{{{below}}}"
        return f"{{{written}}}_{{{single}}}" if single else written + brackets
    # softmax(z3): a function of a whole array that has no name of its own. S(0),(2) is no call.
    call = re.fullmatch(r"(\w+)\((.+)\)", name)
    if call and not read.of:
        written = f"{latex_function(call[1], 0, word)}({latex_name(call[2], (), word)})"
        return f"{{{written}}}_{{{single}}}" if single else written + brackets
    # S2,3 and D2→3 are of two layers, and δ0.weight is of one that is no symbol.
    if read.of or read.base == "δ":
        ends = [_place(end, word) for end in read.ends]
        joined = (r" \to " if read.base == "D" else ",").join(ends)
        base = r"\delta" if read.base == "δ" else read.base
        above = f"^{{{chr(92)}prime}}" if read.primes else ""
        return base + above + f"_{{{joined}{f',{single}' if single else ''}}}" + brackets
    return word(name) + (f"_{{{single}}}" if single else brackets)


def latex_index(name: str) -> str:
    """The name of an index: i, or i with a number; ``:`` for a whole axis, or a number."""
    if name == ":" or name.isdecimal():
        return name
    match = re.fullmatch(r"([^\W\d_]+)(\d*)", name)
    if match is None:
        return typewriter(name)
    letter = (
        f"\\{GREEK[match[1]]}"
        if match[1] in GREEK
        else match[1]
        if len(match[1]) == 1
        else rf"\mathrm{{{match[1]}}}"
    )
    return f"{letter}_{{{match[2]}}}" if match[2] else letter


def _place(layer: str, word: Callable[[str], str]) -> str:
    """A layer in a subscript: 3, or (fc1)."""
    if layer.isdigit():
        return layer
    if layer.startswith("(") and layer.endswith(")"):
        return f"({latex_name(layer[1:-1], (), word)})"
    return latex_name(layer, (), word)


def _letter(symbol: Symbol, word: Callable[[str], str]) -> tuple[str, str]:
    """The letter of a symbol, and what belongs into its subscript: δW is a δ with the subscript
    W, and Sz, as the curvature in z is called, an S with the subscript z."""
    base = symbol.base
    of_one = base[0] in "SD" and len(base) == 2 and base[1].islower()
    if len(base) > 1 and (base[0] in GREEK or of_one):
        letter = f"\\{GREEK[base[0]]}" if base[0] in GREEK else base[0]
        return letter, latex_name(base[1:] + symbol.number, (), word)
    command = GREEK.get(base) or _SPELLED.get(base)
    letter = f"\\{command}" if command else base if len(base) == 1 else word(base)
    return (f"\\{symbol.accent}{{{letter}}}" if symbol.accent else letter), ""


def text_function(name: str) -> str:
    """An elementwise function in Unicode: the letter that people write for it, or its name."""
    return FUNCTIONS[name].letter or name if name in FUNCTIONS else name


def latex_function(name: str, order: int, word: Callable[[str], str] = typewriter) -> str:
    """An elementwise function, differentiated ``order`` times, without its argument."""
    if name in FUNCTIONS and FUNCTIONS[name].latex:
        written = FUNCTIONS[name].latex
    elif name.isascii() and name.isalpha():
        written = name if len(name) == 1 else rf"\operatorname{{{name}}}"
    else:
        written = latex_name(name, (), word)
    return written + ("'" * order if order <= 3 else f"^{{({order})}}")
