"""ASCII names for Python code, from the names of a derivation: δ3 becomes delta3, ŷ becomes
y_hat."""

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable

from hesse.derivation.calculus.picking import Picker, numbered

# What the signs above a letter are called.
_MARKS = {"CIRCUMFLEX ACCENT": "_hat", "TILDE": "_tilde", "MACRON": "_bar", "DOT ABOVE": "_dot"}
_SIGNS = {
    "′": "_prime",
    "'": "_prime",
    "∂": "d",
    "→": "_to_",
    "″": "_prime2",
    "∘": "_",
    "⊙": "_",
    "−": "_",
    "ᵀ": "T",
}
# What code must be able to call by its own name.
_TAKEN = frozenset(
    {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "numpy", "torch", "math", "scipy"}
)


def identifier(name: str) -> str:
    """A name in ASCII letters, digits and underscores.

    Examples:
        >>> [identifier(name) for name in ("δ3", "ŷ", "inv(X)", "0.weight", "lambda")]
        ['delta3', 'y_hat', 'inv_X', 'p0_weight', 'lambda_']
    """
    letters = []
    # Taken apart, ŷ is a letter and the sign above it, and ₂ is 2.
    for sign in unicodedata.normalize("NFKD", "".join(_SIGNS.get(sign, sign) for sign in name)):
        full = unicodedata.name(sign, "")
        if sign.isascii():
            letters.append(sign if sign.isalnum() else "_")
        elif full.startswith("GREEK") and "LETTER" in full:
            word = full.split("LETTER ")[1].split(" ")[0]
            word = {"LAMDA": "LAMBDA"}.get(word, word).lower()
            letters.append(word.capitalize() if "CAPITAL" in full else word)
        elif full.startswith("COMBINING"):
            letters.append(_MARKS.get(full.removeprefix("COMBINING "), ""))
        else:
            letters.append(f"_{ord(sign):x}_")
    # Two underscores in a row have a meaning of their own in Python.
    text = re.sub("__+", "_", "".join(letters)).strip("_") or "value"
    text = f"p{text}" if text[0].isdigit() else text
    return f"{text}_" if text in _TAKEN else text


class Names:
    """Identifiers of one function, none twice.

    Examples:
        >>> names = Names(["w"])
        >>> names.new("w"), names.new("δ"), names.new("delta")
        ('w_2', 'delta', 'delta_2')
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._picker = Picker(set(taken))

    def new(self, name: str) -> str:
        """An identifier for a name; with a number where it is taken."""
        return self._picker.pick(numbered([identifier(name)], 2, before="_"))
