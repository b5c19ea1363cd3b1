"""Chains that are derived without the checks of annotations that the test run installs: of each its
name, depth, largest deviation, number of lines and most terms in a line, as JSON. A product that is
too long is refused.

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
PRODUCT = "sum(" + "*".join(f"(x*{'abcdefg'[k * k % 7]}+{k})" for k in range(50)) + ")"

if __name__ == "__main__":
    rows = []
    for name, (text, wrt, depth) in CHAINS.items():
        derivation = hesse.derive(text, wrt)
        certificate = derivation.certificate
        assert certificate is not None
        longest = max(len(line.after.terms) for line in derivation.steps(wrt, wrt)[2:])
        rows.append((name, depth, certificate.deviation, certificate.lines, longest))
    try:
        hesse.derive(PRODUCT, "x")
        raise AssertionError("a product of fifty sums has lines of pages")
    except hesse.HesseError as error:
        assert "a line has" in str(error)
    print(json.dumps(rows))
