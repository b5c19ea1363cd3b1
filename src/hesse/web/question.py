"""What is asked on the page for derivations, as one record that a link holds whole."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

import hesse
from hesse.derivation.derivation import Derivation
from hesse.errors import HesseValueError

LONGEST = 4000  # characters of one field; a cost in a browser is a line or two


@dataclass(frozen=True)
class Question:
    """A cost in the language of formulas, or a network in words.

    Attributes:
        cost: the text of a cost; empty where a network is asked about.
        wrt: names of its parameters, separated by commas.
        shapes: as `hesse.derive` takes them, ``"W1[h,d] x[d]"``.
        given: facts, separated by semicolons.
        network: widths, activation and loss: ``"2-3-1, sigmoid, half_sse"``.
    """

    cost: str = ""
    wrt: str = ""
    shapes: str = ""
    given: str = ""
    network: str = ""

    @classmethod
    def of(cls, said: Mapping[str, str]) -> "Question":
        """The question that a link or a form holds.

        Raises:
            HesseValueError: a field is too long.
        """
        return cls(**{one.name: within(said, one.name, LONGEST) for one in fields(cls)})

    def __bool__(self) -> bool:
        return bool(self.cost or self.network)

    @property
    def query(self) -> str:
        """The question as the end of a link.

        Examples:
            >>> Question("x @ A @ x", "x").query
            'cost=x+%40+A+%40+x&wrt=x'
        """
        return urlencode({one.name: v for one in fields(self) if (v := getattr(self, one.name))})

    @property
    def facts(self) -> tuple[str, ...]:
        """What is given, one by one."""
        return tuple(fact for text in self.given.split(";") if (fact := text.strip()))

    def derivation(self) -> Derivation:
        """The answer.

        Raises:
            HesseError: as `hesse.derive` and `hesse.Network`.
        """
        if self.network:
            return hesse.derive(network_in_words(self.network), self.wrt or None)
        return hesse.derive(self.cost, self.wrt, shapes=self.shapes or None, given=self.facts)


def within(said: Mapping[str, str], name: str, longest: int) -> str:
    """A field of a link or a form.

    Raises:
        HesseValueError: it is too long.
    """
    text = said.get(name, "").strip()
    if len(text) > longest:
        raise HesseValueError(f"{name}: expected at most {longest} characters, got {len(text)}")
    return text


def network_in_words(text: str) -> "hesse.Network":
    """A network as one says it: widths, and then, in any order, an activation, a loss and "no
    biases".

    Raises:
        HesseError: a word that is none of these; the text names the nearest.

    Examples:
        >>> print(network_in_words("2-3-1, tanh, no biases"))
        2-3-1, tanh, half_sse, no biases
    """
    from hesse.derivation.sources.networks.network import LOSSES

    widths, *words = [word.strip() for word in text.split(",")]
    said = {"activation": "sigmoid", "loss": "half_sse"}
    bias = True
    for word in filter(None, words):
        if word in ("no biases", "no bias"):
            bias = False
        else:
            said["loss" if word in LOSSES else "activation"] = word
    return hesse.Network(widths, said["activation"], said["loss"], bias)
