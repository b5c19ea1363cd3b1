"""Formulas in MathML: LaTeX with the shapes of its arrays, converted and cleaned."""

import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from hesse.derivation.show.given import shape_text
from hesse.derivation.show.latex_writer import LatexWriter

_WORD = "hesseword{}x"  # stands for a name that is no symbol until the MathML is there
# All else that the converter may write is left out.
_ELEMENTS = {
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mtext",
    "mstyle",
    "mspace",
    "mfrac",
    "msqrt",
    "mtable",
    "mtr",
    "mtd",
}
_ELEMENTS |= {"msub", "msup", "msubsup", "munder", "mover", "munderover"}
_ATTRIBUTES = {
    "class",
    "display",
    "displaystyle",
    "scriptlevel",
    "mathvariant",
    "width",
    "linebreak",
}
_ATTRIBUTES |= {"stretchy", "fence", "form", "accent", "accentunder", "minsize", "maxsize"}


class PageWriter(LatexWriter):
    """LaTeX for the converter: symbols know their arrays' shapes, and words are kept out of its
    way."""

    def __init__(self, program: Any, shaped: bool = False) -> None:
        super().__init__(program, shaped)
        # What stands behind the numbers in the LaTeX, in the order in which it was first written.
        self.words: list[str] = []
        self.arrays: list[str] = []

    def word(self, text: str) -> str:
        if text not in self.words:
            self.words.append(text)
        return rf"\text{{{_WORD.format(self.words.index(text))}}}"

    def named(self, name: str, symbol: str) -> str:
        symbol = super().named(name, symbol)
        if not self.sizes(name):
            return symbol
        if name not in self.arrays:
            self.arrays.append(name)
        return rf"\class{{array{self.arrays.index(name)}}}{{{symbol}}}"

    def moving(self, part: str) -> str:
        return rf"\class{{moving}}{{{part}}}"


@dataclass
class Maths:
    """Converts LaTeX to MathML, each formula once."""

    known: dict[tuple[PageWriter, str], str] = field(default_factory=dict)

    def __call__(self, latex: str, writer: PageWriter) -> str:
        key = writer, latex
        if key not in self.known:
            self.known[key] = self._converted(latex, writer)
        return self.known[key]

    def _converted(self, latex: str, writer: PageWriter) -> str:
        from latex2mathml.converter import convert
        from markupsafe import Markup, escape

        try:
            root = ElementTree.fromstring(
                convert(latex).replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
            )
        except Exception:  # a formula that the converter cannot read is shown as it is written
            return Markup("<code>") + escape(latex) + Markup("</code>")
        for element in root.iter():
            self._cleaned(element, writer)
        # Fractions and sums in full size, within a line of text too.
        root.set("displaystyle", "true")
        return Markup(ElementTree.tostring(root, encoding="unicode"))

    def _cleaned(self, element: ElementTree.Element, writer: PageWriter) -> None:
        """Known elements and attributes only; words and shapes put in."""
        if element.tag not in _ELEMENTS:
            element.tag = "mrow"
        for name in [name for name in element.attrib if name not in _ATTRIBUTES]:
            del element.attrib[name]
        # Browsers take no other variant than the upright one.
        if element.get("mathvariant") not in (None, "normal"):
            del element.attrib["mathvariant"]
        if element.tag == "mo" and len(element.text or "") > 1 and (element.text or "").isalnum():
            element.tag = "mi"  # diag is a name: an operator sign would have space around it
        if element.text and not element.text.strip("′″‴"):
            element.set("class", "prime")
        # The class that the writer gave a symbol becomes the shape of its array.
        array = re.fullmatch(r"array(\d+)", element.get("class", ""))
        if array:
            name = writer.arrays[int(array[1])]
            element.set("class", "array")
            element.set("data-shape", f"{name} {shape_text(writer.sizes(name))}")
        word = re.fullmatch(_WORD.format(r"(\d+)"), (element.text or "").strip())
        if word:
            element.text = writer.words[int(word[1])]
            element.set("class", "word")
