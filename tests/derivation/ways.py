"""Random costs in every way to their numbers: ``python tests/derivation/ways.py --count 1000``.

What the tests do with some tens, with as many as asked for. A cost that fails is printed.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402

from derivation.strategies import Drawn, costs  # noqa: E402
from derivation.test_properties import assert_same_in_every_way  # noqa: E402


def main() -> int:
    """Their number, and those that fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=5, help="of the trees")
    options = parser.parse_args()
    tried, failed = 0, 0

    @settings(
        max_examples=options.count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        phases=[Phase.generate],
        database=None,
    )
    @given(costs(options.depth))
    def all_of_them(drawn: Drawn) -> None:
        nonlocal tried, failed
        tried += 1
        try:
            assert_same_in_every_way(drawn.case)
        except Exception as error:
            failed += 1
            case = drawn.case
            print(f"{type(error).__name__}: {case.text}, by {case.parameters}, {case.shapes}")

    all_of_them()
    print(f"{tried} costs, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
