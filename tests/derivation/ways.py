"""Random costs in every way to their numbers: ``python tests/derivation/ways.py --count 1000``.

What the tests do with some tens, with as many as asked for. A cost that fails is printed.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

import hesse  # noqa: E402
from derivation.expressions import Case  # noqa: E402
from derivation.strategies import Drawn, costs  # noqa: E402
from derivation.test_properties import assert_same_in_every_way  # noqa: E402


def main() -> int:
    """Their number, and those that fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--depth", type=int, default=5, help="of the trees")
    options = parser.parse_args()
    tried: set[Case] = set()
    failed, refused = 0, list[Case]()

    @seed(options.seed)
    @settings(
        max_examples=options.count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        phases=[Phase.generate],
        database=None,
    )
    @given(costs(options.depth))
    def all_of_them(drawn: Drawn) -> None:
        nonlocal failed
        case = drawn.case
        if case in tried:
            return
        tried.add(case)
        try:
            assert_same_in_every_way(case)
        except Exception as error:
            # The norm of what is always zero has no derivative, and is refused.
            if isinstance(error, hesse.HesseError) and "can be certified" in str(error):
                refused.append(case)
                return
            failed += 1
            said = " ".join(str(error).split())[:200]
            print(f"{type(error).__name__}: {case.text}, by {case.parameters}, {case.shapes}")
            print(f"    {said}", flush=True)

    all_of_them()
    print(f"{len(tried)} costs, {len(refused)} refused, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
