"""Shapes in annotations: `Float[Tensor, "n p"]` is a tensor of that many entries each way.

They say what kind of number and which sizes, in jaxtyping's letters. To Python and to type checkers
they are the array with a remark, so that nothing has to be there to read them; the tests read them
as jaxtyping does, and hold every call against them (`tests/checked.py`).
"""

from typing import Annotated as Float
from typing import Annotated as Int
from typing import Annotated as Shaped

__all__ = ["Float", "Int", "Shaped"]
