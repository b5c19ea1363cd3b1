"""Names within sentences, which look as they do in formulas: W₁ rather than W1."""

import re
from collections.abc import Callable, Iterator, Sequence

from hesse.derivation.calculus.program import Program
from hesse.derivation.show.names import symbol_of

# Names that are words of a sentence as well.
_WORDS = {"a", "is", "in", "of", "as", "by", "for", "it", "on", "one", "the", "to"}


class Sentences:
    """Finds the names of a program in what is said about it.

    Args:
        program: whose names they are.
        written: writes a name at the names of its indices.
    """

    def __init__(self, program: Program, written: Callable[[str, Sequence[str]], str]) -> None:
        self.written = written
        names = sorted(program.names - _WORDS, key=len, reverse=True)
        # The letter of a branch is none of them.
        # An index stands behind a low line where the name is a symbol, as `text_name` writes it.
        self._name = re.compile(
            rf"(?<![A-Za-z0-9_.])(?<!branch )(?P<name>{'|'.join(map(re.escape, names))})"
            r"(?:\[(?P<several>[\w,]+)\]|_(?P<single>[^\W_]+))?(?![\w(])"
        )

    def pieces(self, text: str, plain: Callable[[str], str]) -> Iterator[str]:
        """A sentence in pieces: names as they are written, and what stands between them, which
        ``plain`` writes."""
        end = 0
        for found in self._name.finditer(text):
            name, single = found["name"], found["single"]
            if single is not None and symbol_of(name) is None:
                continue
            entries = [single] if single else (found["several"] or "").split(",")
            yield plain(text[end : found.start()])
            yield self.written(name, [entry for entry in entries if entry])
            end = found.end()
        yield plain(text[end:])
