"""A strict reader of the LaTeX that hesse writes: what it passes, TeX passes."""

import re

# How many braced arguments each command takes. What is not here is not written.
_COMMANDS = {
    2: "frac tfrac underset textcolor setlength",
    1: (
        "sqrt underbrace underline hat tilde bar dot ddot operatorname text texttt ensuremath"
        " mathrm mathbf documentclass usepackage section* subsection* paragraph"
    ),
    0: (
        "begin end sum partial cdot circ otimes top prime to times quad hfill footnotesize Bigl"
        " Bigr left right ldots le ge ne in infty mapsto allowbreak det log exp sin cos tan tanh"
        " sinh cosh allowdisplaybreaks textwidth oddsidemargin textheight topmargin parindent"
        " arctan parskip sloppy tolerance textasciitilde textasciicircum textbackslash"
        " alpha beta gamma delta varepsilon"
        " zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon varphi phi chi psi"
        " omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
    ),
}
ARGUMENTS = {name: count for count, names in _COMMANDS.items() for name in names.split()}
MATHS = {"align*", "aligned", "pmatrix"}
TO_TEXT, TO_MATHS = {"text", "texttt"}, {"ensuremath"}
TOKEN = re.compile(r"\\(?:[A-Za-z]+\*?|.)|[{}$&#%^_~']|[^\\{}$&#%^_~']", re.DOTALL)


class TexError(AssertionError):
    """What LaTeX would stumble over, and where."""


def check(source: str, maths: bool = False) -> None:
    """Raise unless the source is balanced, in ASCII, with known commands, their arguments, and
    scripts only where they can stand.

    Args:
        source: a document, or a formula.
        maths: whether it begins in math mode.
    """
    Reader(source, maths).read()


class Reader:
    def __init__(self, source: str, maths: bool) -> None:
        for place, character in enumerate(source):
            if not character.isascii():
                raise TexError(f"{character!r} at {source[max(0, place - 30) : place + 10]!r}")
        self.tokens = [(match[0], match.start()) for match in TOKEN.finditer(source)]
        self.source, self.at = source, 0
        self.open: list[tuple[str, bool]] = []  # what has to be closed, and the mode to go back to
        self.maths = maths
        self.scripts = [set[str]()]  # the scripts that the last atom of each level has

    def fail(self, why: str) -> None:
        place = self.tokens[min(self.at, len(self.tokens) - 1)][1]
        raise TexError(f"{why}: {self.source[max(0, place - 60) : place + 30]!r}")

    def peek(self, ahead: int = 1) -> str:
        at = self.at + ahead
        while at < len(self.tokens) and self.tokens[at][0].isspace():
            at += 1
        return self.tokens[at][0] if at < len(self.tokens) else ""

    def arguments(self, token: str, count: int) -> None:
        """Look ahead over the braced arguments of a command."""
        rest = (
            [token for token, _ in self.tokens[self.at + 1 : self.at + 4000] if not token.isspace()]
            if count
            else []
        )
        if rest[:1] == ["["] and token in (r"\documentclass", r"\textcolor", r"\sqrt"):
            rest = rest[rest.index("]") + 1 :]
        for _ in range(count):
            if rest[:1] != ["{"]:
                self.fail(f"{token} takes {count} arguments in braces")
            depth = 0
            for place, one in enumerate(rest):
                depth += (one == "{") - (one == "}")
                if not depth:
                    rest = rest[place + 1 :]
                    break

    def word(self) -> str:
        """The text of the braced group that comes next, which the reader passes."""
        match = re.match(
            r"\s*\{([^{}]*)\}",
            self.source[self.tokens[self.at][1] + len(self.tokens[self.at][0]) :],
        )
        if match is None:
            self.fail("a name in braces is missing")
        assert match is not None
        end = self.tokens[self.at][1] + len(self.tokens[self.at][0]) + match.end()
        while self.at + 1 < len(self.tokens) and self.tokens[self.at + 1][1] < end:
            self.at += 1
        return match[1]

    def enter(self, what: str, maths: bool) -> None:
        self.open.append((what, self.maths))
        self.maths = maths
        self.scripts.append(set())

    def leave(self, what: str) -> None:
        if not self.open or self.open[-1][0] != what:
            self.fail(f"{what} closes {self.open[-1][0] if self.open else 'nothing'}")
        self.maths = self.open.pop()[1]
        self.scripts.pop()

    def read(self) -> None:
        mode: bool | None = None  # of the next group, where a command has said so
        while self.at < len(self.tokens):
            token = self.tokens[self.at][0]
            if token == "{":
                self.enter("{", self.maths if mode is None else mode)
                mode = None
            elif token == "}":
                self.leave("{")
            elif token == "$":
                if self.maths:
                    self.leave("$")
                else:
                    self.enter("$", True)
            elif token in ("_", "^"):
                self.script(token)
            elif token == "'" and self.maths:
                if "^" in self.scripts[-1]:
                    self.fail("a prime after a superscript")
                self.scripts[-1].add("'")
            elif token == "&":
                if not any(what in MATHS for what, _ in self.open):
                    self.fail("& outside of an alignment")
                self.scripts[-1] = set()
            elif token in ("#", "%", "~"):
                self.fail(f"{token} is not escaped")
            elif token.startswith("\\"):
                mode = self.command(token)
            elif not token.isspace():
                self.scripts[-1] = set()
            if token == "{" or (token == "}" and self.previous_is_script()):
                pass
            elif token == "}":
                self.scripts[-1] = set()
            self.at += 1
        if self.open:
            self.fail(f"never closed: {[what for what, _ in self.open]}")

    def previous_is_script(self) -> bool:
        """Whether the group that closes here was a script."""
        depth = 0
        for at in range(self.at, -1, -1):
            token = self.tokens[at][0]
            depth += (token == "}") - (token == "{")
            if depth == 0:
                return at > 0 and self.tokens[at - 1][0] in ("_", "^")
        return False

    def script(self, token: str) -> None:
        if not self.maths:
            self.fail(f"{token} in text")
        if token in self.scripts[-1]:
            self.fail(f"double {token}")
        self.scripts[-1].add(token)
        if self.peek() != "{":
            self.fail("a script without braces")

    def command(self, token: str) -> bool | None:
        name = token[1:]
        if not name[0].isalpha():
            if name == "[":
                self.enter("\\[", True)
            elif name == "]":
                self.leave("\\[")
            elif name == "\\" and not any(what in MATHS for what, _ in self.open):
                self.fail("a line break outside of an alignment")
            elif name not in "\\,;{}_#$%& |!":
                self.fail(f"unknown command {token}")
            self.scripts[-1] = set()
            return None
        if name not in ARGUMENTS:
            self.fail(f"unknown command {token}")
        self.arguments(token, ARGUMENTS[name])
        if name == "begin":
            environment = self.word()
            if environment != "document" and environment not in MATHS:
                self.fail(f"unknown environment {environment}")
            self.enter(environment, environment in MATHS)
        elif name == "end":
            self.leave(self.word())
        elif name in ("left", "right"):
            if not self.maths or self.peek() not in tuple("()[]|."):
                self.fail(f"{token} without a delimiter in math mode")
            if name == "left":
                self.enter("\\left", True)
            else:
                self.leave("\\left")
            self.at += 1
        elif name == "textcolor" and self.word() not in ("blue", "brown"):
            self.fail("unknown colour")
        if not self.maths and name in (
            "frac",
            "sum",
            "partial",
            "cdot",
            "underset",
            "underbrace",
            "delta",
            "hat",
        ):
            self.fail(f"{token} in text")
        self.scripts[-1] = set()
        return False if name in TO_TEXT else True if name in TO_MATHS else None
