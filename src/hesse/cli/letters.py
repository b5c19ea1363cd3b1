"""The letters of mathematics in those that a terminal has: a way of encoding, for streams that
lack some."""

import codecs
import unicodedata
from io import TextIOWrapper
from itertools import groupby

# What a decomposition or a name does not give. One letter for one where there is such a one, so
# that columns stay below each other.
_SPELLED = {
    **{"‖": "|", "∂": "d", "∇": "grad ", "−": "-", "–": "-", "—": "-", "─": "-", "└": "`"},
    **{"·": ".", "⋅": ".", "×": "x", "⊗": "(x)", "∘": "o", "⊙": "o", "⊤": "T", "±": "+-"},
    **{
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
        "→": "->",
        "←": "<-",
        "≈": "~",
        "↦": "->",
        "∈": "in",
        "∞": "inf",
        "√": "sqrt",
    },
    **{"∑": "Sum", "′": "'", "″": "''", "‴": "'''", "‾": "-", "’": "'", "“": '"', "”": '"'},
    **{"⟨": "<", "⟩": ">", "⌊": "[", "⌋": "]", "✓": "ok", "⁄": "/"},
}
# Signs above a letter, without which it would be another: ŷ is no y.
_ACCENTS = {"\u0302": "hat", "\u0303": "tilde", "\u0304": "bar", "\u0307": "dot", "\u0308": "ddot"}
# Raised and lowered signs begin with these.
_PLACES = {"<super>": "^", "<sub>": "_"}
_NAME = "hesse.letters"


def spelled(text: str) -> str:
    """A text in ASCII: Greek letters by their names, raised signs after a ^, signs above a letter
    after it, and a question mark for what has no other letter.

    Examples:
        >>> spelled("‖g‖∞, θᵀH⁻¹θ ≤ ½ λ², y − ŷ")
        '|g|inf, theta^TH^-1theta <= 1/2 lambda^2, y - yhat'
    """
    return "".join(
        place + "".join(map(_letter, run))
        for place, run in groupby(text, key=lambda letter: _PLACES.get(_kind(letter), ""))
    )


def write_in_own_letters(stream: TextIOWrapper) -> None:
    """Let a stream spell what its encoding lacks, in place of ending the work."""
    codecs.register_error(_NAME, _encoded)
    stream.reconfigure(errors=_NAME)


def _encoded(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return spelled(error.object[error.start : error.end]), error.end


def _kind(letter: str) -> str:
    return unicodedata.decomposition(letter).partition(" ")[0]


def _letter(letter: str) -> str:
    if letter.isascii():
        return letter
    if letter in _SPELLED:
        return _SPELLED[letter]
    # Letters with accents, raised and bold ones are others with a sign.
    base = unicodedata.normalize("NFKD", letter)
    if base != letter:
        return "".join(map(_letter, base))
    if unicodedata.combining(letter):
        return _ACCENTS.get(letter, "")
    # Unicode's own way to spell it is nobody else's.
    words = unicodedata.name(letter, "").replace("LAMDA", "LAMBDA").split()
    if words[:1] == ["GREEK"] and words[2:3] == ["LETTER"]:
        return words[3].lower() if words[1] == "SMALL" else words[3].capitalize()
    return "?"
