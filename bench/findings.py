"""What was found where, and the tables of it."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from bench import report
from bench.second_derivatives import NAMES, Deviation

ALWAYS_VMAP = ("torch.func.hessian", "jacfwd(jacfwd)")
COLUMNS = {
    "right": "right",
    "wrong": "wrong",
    "generic": "at a generic point",
    "circumstance": "only under vmap or no_grad",
    "special": "only at special points",
    "raises": "raises",
    "raises in circumstances": "only under vmap or no_grad ",
    "refuses": "refuses",
    "raw": "raw error",
    "cannot tell": "cannot tell",
}
QUANTITIES = ("hessian", "diagonal", "operator")


@dataclass
class Finding:
    """What one way, or one of hesse's quantities, said at one point.

    Attributes:
        verdict: right, wrong, raises (torch), refuses (hesse, with a HesseError) or raw (hesse,
            with any other).
        where: what stood around the call (vmap over columns, no_grad, a batch by vmap), or hesse's
            model.
        deviation: of a wrong one.
        error: the text of what was raised.
    """

    name: str
    verdict: str
    where: tuple[str, ...] = ()
    deviation: Deviation | None = None
    error: str = ""


@dataclass
class Point:
    """One operation at one point, and all that was found there."""

    operation: str
    call: str
    point: str
    doubt: str = ""
    findings: list[Finding] = field(default_factory=list)


def verdicts(found: list[Point], name: str) -> Counter[str]:
    """How many operations are right everywhere, wrong somewhere, and so on, by one way; the worst
    verdict counts."""
    counts: Counter[str] = Counter()
    by_operation: dict[str, list[tuple[str, Finding]]] = {}
    for point in found:
        by_operation.setdefault(point.operation, [])
        by_operation[point.operation] += [
            (point.point, finding) for finding in point.findings if finding.name == name
        ]
    for findings in by_operation.values():
        said = {finding.verdict for _, finding in findings}
        verdict = next(
            (v for v in ("wrong", "raw", "raises", "refuses", "right") if v in said), "cannot tell"
        )
        these = [(where, finding) for where, finding in findings if finding.verdict == verdict]
        plain = [
            where
            for where, finding in these
            if finding.where == (("vmap",) if name in ALWAYS_VMAP else ())
        ]
        if verdict == "wrong":
            counts[verdict] += 1
            generic = any(where == "generic" for where, _ in these)
            verdict = "generic" if "generic" in plain else "circumstance" if generic else "special"
        elif verdict == "raises" and not plain:
            verdict = "raises in circumstances"
        counts[verdict] += 1
    return counts


def summary(found: list[Point], skipped: Counter[str], elapsed: float) -> report.Report:
    """The table of ways: a row for each of torch's and for each of hesse's three."""
    rows = []
    for name in (*NAMES, *QUANTITIES):
        counts = verdicts(found, name)
        if not any(finding.name == name for point in found for finding in point.findings):
            continue
        cells = [str(counts[key]) for key in COLUMNS]
        if name in QUANTITIES:
            rows.append([f"hesse.{name}", *cells[:2], "", "", cells[4], "", "", *cells[7:]])
        else:
            rows.append([name, *cells[:7], "", "", cells[9]])
    told = [point for point in found if not point.doubt]
    doubts = Counter(point.doubt.partition(":")[0] for point in found if point.doubt)
    return report.Report(
        name="conformance",
        title=f"Second derivatives of {len({point.operation for point in found})} operations",
        header=["by", *COLUMNS.values()],
        rows=rows,
        notes=[
            (
                "Each operation counts once: wrong if it is wrong anywhere, else raises if it"
                " raises anywhere, right if everywhere."
            ),
            (
                f"The reference: differences of the gradient in float64, at {len(told)} of"
                f" {len(found)} points. Where they cannot tell: {listed(doubts)}."
            ),
            f"Not looked at: {listed(skipped)}.",
            f"One thread, {report.seconds(elapsed)}.",
        ],
        measurements=records(found),
    )


def listed(counts: Counter[str]) -> str:
    """``random 7, sparse 4``."""
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "none"


def records(found: list[Point]) -> dict[str, Any]:
    """What is kept: the operations where everything is right, and of the others what is not, by
    whom, where and how badly."""
    possible = circumstances(found)
    others: dict[str, dict[str, Any]] = {}
    for name, verdict in dict.fromkeys(
        (f.name, f.verdict) for point in found for f in point.findings if f.verdict != "right"
    ):
        for operation, pairs in _cases(found, name, verdict).items():
            point, worst = max(pairs, key=lambda pair: size(pair[1]))
            others.setdefault(operation, {})[f"{name} {verdict}"] = {
                "around": around({finding.where for _, finding in pairs}, possible[name]),
                "points": ", ".join(dict.fromkeys(p.point for p, _ in pairs)),
                "worst": (
                    f"{worst.deviation or worst.error[:120]} at {point.point} of ({point.call})"
                ),
            }
    told = {point.operation for point in found if not point.doubt}
    return {
        "right everywhere": sorted(told - others.keys()),
        "cannot tell anywhere": sorted({point.operation for point in found} - told),
        "not right everywhere": others,
    }


def _cases(found: list[Point], name: str, verdict: str) -> dict[str, list[tuple[Point, Finding]]]:
    cases: dict[str, list[tuple[Point, Finding]]] = {}
    for point in found:
        for finding in point.findings:
            if (finding.name, finding.verdict) == (name, verdict):
                cases.setdefault(point.operation, []).append((point, finding))
    return cases


def circumstances(found: list[Point]) -> dict[str, set[tuple[str, ...]]]:
    """What ever stood around each way."""
    possible: dict[str, set[tuple[str, ...]]] = {}
    for finding in (finding for point in found for finding in point.findings):
        possible.setdefault(finding.name, set()).add(finding.where)
    return possible


def size(finding: Finding) -> float:
    """How wrong; 0 for what raised."""
    return finding.deviation.size if finding.deviation else 0.0


def wrong(found: list[Point], names: tuple[str, ...], verdict: str, title: str) -> report.Report:
    """Where a way is wrong (or raw): a row for each operation and way, the generic point apart,
    with the worst entry."""
    cases: dict[tuple[str, str, bool], list[tuple[Point, Finding]]] = {}
    possible = circumstances(found)
    for point in found:
        for finding in point.findings:
            if finding.name in names and finding.verdict == verdict:
                cases.setdefault(
                    (point.operation, finding.name, point.point == "generic"), []
                ).append((point, finding))
    rows = []
    for (operation, name, _), several in cases.items():
        point, worst = max(several, key=lambda pair: size(pair[1]))
        where = around({finding.where for _, finding in several}, possible[name])
        at = ", ".join(dict.fromkeys(p.point for p, _ in several))
        rows.append(
            [
                operation,
                name,
                where,
                at,
                f"{worst.deviation or worst.error} at {point.point} of ({point.call})",
            ]
        )
    return report.Report("wrong", title, ["operation", "by", "around", "points", "worst"], rows)


def needless(found: list[Point]) -> list[Point]:
    """Points where hesse refuses although torch's double backward, with nothing around it, is
    right: only those refusals.

    Some of a point's samples lie near the generic point, so double backward must be right there
    too.
    """
    right: dict[tuple[str, str, str], bool] = {}
    for point in found:
        plain = [
            finding.verdict
            for finding in point.findings
            if finding.name == NAMES[0] and not finding.where
        ]
        right[point.operation, point.call, point.point] = bool(plain) and set(plain) == {"right"}
    chosen = []
    for point in found:
        refusals = [finding for finding in point.findings if finding.verdict == "refuses"]
        if refusals and all(
            right.get((point.operation, point.call, name)) for name in (point.point, "generic")
        ):
            chosen.append(replace(point, findings=refusals))
    return chosen


def around(found: set[tuple[str, ...]], possible: set[tuple[str, ...]]) -> str:
    """What a set of circumstances has in common: always, or the words that bring it about."""
    if found == possible:
        return "always"
    least = [words for words in found if not any(set(other) < set(words) for other in found)]
    return " | ".join(
        " + ".join(words) or "nothing"
        for words in sorted(least, key=lambda words: (len(words), words))
    )
