"""Chains that are derived without the checks of annotations that the test run installs: of each its
name, depth, largest deviation, number of lines and most terms in a line, as JSON. Products that are
too long are refused.

    python tests/derivation/chains.py
"""

import json

import hesse

DEPTH = 50
CHAINS = {
    "tanh": ("sum(" + "tanh(" * DEPTH + "x" + ")" * DEPTH + ")", "x", DEPTH),
    "an unknown function": ("sum(" + "f(x+" * DEPTH + "x" + ")" * DEPTH + ")", "x", DEPTH),
    "exponentials": ("sum(" + "exp(-" * DEPTH + "x" + ")" * DEPTH + ")", "x", DEPTH),
    "fifty layers of one weight": (
        "sum(" + "tanh(W@" * DEPTH + "x" + ")" * DEPTH + ")",
        "W",
        DEPTH,
    ),
    "a network": ("sum(" + "tanh(W@" * 20 + "x" + ")" * 20 + ")", "W", 20),
}
TOO_LONG = {
    "sum(" + "*".join(f"(x*{'abcdefg'[k * k % 7]}+{k})" for k in range(50)) + ")": "x",
    "*".join(f"sum(x*a{k})**{k + 2}" for k in range(40)): "x",
    "sum((" + "W@" * DEPTH + "x)**2)": "W",
}

if __name__ == "__main__":
    rows = []
    for name, (text, wrt, depth) in CHAINS.items():
        derivation = hesse.derive(text, wrt)
        certificate = derivation.certificate
        assert certificate is not None
        longest = max(len(line.after.terms) for line in derivation.steps(wrt, wrt)[2:])
        rows.append((name, depth, certificate.deviation, certificate.lines, longest))
    for text, wrt in TOO_LONG.items():
        try:
            hesse.derive(text, wrt)
            raise AssertionError(f"{text} has lines of pages")
        except hesse.HesseError as error:
            assert "a line has" in str(error)
    print(json.dumps(rows))
