"""How long a derivation takes, every line certified. ``python -m bench.derivations``."""

import time
from functools import reduce
from statistics import median

import hesse
from bench import report

REPEATS = 5
HEADER = ["derivation", "lines", "largest deviation", "best", "median", "target"]
LOGISTIC = "-sum(y*log(sigmoid(X @ w)) + (1 - y)*log(1 - sigmoid(X @ w)))"


def deep(layers: int) -> tuple[str, list[str]]:
    """½ Σ (y − tanh(W_L tanh(… W_1 x)))², as text, and its parameters."""
    names = [f"W{layer}" for layer in range(1, layers + 1)]
    return f"1/2*sum((y - {reduce(lambda inner, W: f'tanh({W} @ {inner})', names, 'x')})**2)", names


# What is derived, its parameters, what is known of its data, and the target in seconds.
LINES: dict[str, tuple[str, list[str], str, float]] = {
    "two-layer network": ("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", ["W1", "W2"], "", 1),
    "three layers, written out": (*deep(3), "", 3),
    "four layers": (*deep(4), "", 3),
    "sixteen layers, stage by stage": (*deep(16), "", 5),
    "xᵀAx": ("x.T @ A @ x", ["x"], "", 2),
    "least squares": ("1/2*sum((y - X @ w)**2)", ["w"], "", 2),
    "logistic regression": (LOGISTIC, ["w"], "", 2),
    "cross entropy in the logits": ("-sum(y*log(softmax(z)))", ["z"], "sum(y) == 1", 2),
    "matrix factorisation": ("sum((Omega*(T - U @ V.T))**2)", ["U", "V"], "Omega == 1", 2),
    "logsumexp": ("logsumexp(A @ x)", ["x"], "", 2),
    "logdet": ("logdet(X)", ["X"], "", 2),
    "linear two-layer network": ("1/2*sum((y - W2 @ W1 @ x)**2)", ["W1", "W2"], "", 2),
    "output block, samples": ("1/2*sum((Y - f(X @ W1.T) @ W2.T)**2)", ["W1", "W2"], "", 2),
}


def main() -> None:
    """Measure, print and record."""
    hesse.derive("x @ x", wrt="x")  # what is imported at the first call
    rows, measurements = [], []
    for name, (text, wrt, given, bound) in LINES.items():
        seconds = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            d = hesse.derive(text, wrt=wrt, given=given or ())
            seconds.append(time.perf_counter() - begin)
        certificate = d.certificate
        assert certificate is not None
        verdict = report.target(median(seconds), bound, report.seconds(bound), least=False)
        times = [report.seconds(f(seconds)) for f in (min, median)]
        rows.append([name, f"{certificate.lines}", f"{certificate.deviation:.0e}", *times, verdict])
        measurements.append({"name": name, "seconds": seconds, "lines": certificate.lines})
    result = report.Report(
        name="derivations",
        title="Deriving, every line certified",
        header=HEADER,
        rows=rows,
        notes=[
            f"One process, {REPEATS} times each after a first derivation; targets are for the"
            " median."
        ],
        measurements=measurements,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
