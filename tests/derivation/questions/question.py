"""A cost as people type it, and what is to come out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A cost as it is typed.

    Attributes:
        wrt: the parameters, with spaces between.
        forms: by block, "u v" or "u", its matrix form to the letter, and the Hessian as it is
            published, in NumPy, never from hesse (`derivation.published`).
        source: where that is published, or "by hand".
        numbers, vectors: the names that are said to be guessed as such.
    """

    text: str
    wrt: str
    forms: dict[str, tuple[str, str]]
    source: str
    numbers: str = ""
    vectors: str = ""
