"""The code of blocks held against their formulas, at the point that these were certified at."""

from hesse.derivation.calculus.normal_form import weight
from hesse.derivation.check.valuation import Valuation, relative
from hesse.derivation.code.binding import differentiated
from hesse.derivation.code.evaluation import evaluate
from hesse.derivation.lines.records import Record
from hesse.errors import HesseValueError

TOLERANCE = 1e-8
LONGEST = 2**9  # symbols of a block whose code is made in some milliseconds


def require_agreement(derivation: Record, point: Valuation) -> None:
    """Refuse a derivation whose blocks are computed otherwise than they are written. Long ones, and
    those of sizes that were made small for the check, are left out.

    Raises:
        HesseValueError: the code of a block is wrong.
    """
    program = derivation.program
    leaves = program.leaves.items()
    arrays = {name: point.value(name) for name, leaf in leaves if leaf.is_given}
    functions = {name: differentiated(point.functions[name]) for name in program.unknown}
    for block in derivation.blocks.values():
        if point.resized or weight(block.expression) > LONGEST:
            continue
        free = (*block.rows.indices, *block.columns.indices)
        found = evaluate(block.expression, free, program, arrays, functions)
        off = relative(found, point.array(block.expression, free))
        if not off <= TOLERANCE:
            raise HesseValueError(
                f"derivation: the code of the block ({block.rows.name}, {block.columns.name}) is"
                f" off by {off:.1e} from its formula; please report this expression:"
                f" {derivation.source}"
            )
