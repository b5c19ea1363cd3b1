"""The libraries that code is written for: a record of the words of each.

A word is a line of Python with places in it, as in the records of operations (`hesse.operations`),
whose code for a library is one expression in ``z``. A library that spells NumPy's functions under
another name is `NUMPY` with other ``modules``, entered in `BACKENDS`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hesse.derivation.code.identifiers import Names
from hesse.derivation.code.syntax import tree
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The words of one array library.

    Attributes:
        name: what the user calls it.
        operations: the field of an operation's record that holds its code.
        modules: the modules that the code names, the library itself first, and what each of them is
            called here.
        array: what an array is called in a docstring.
        any_array: an array of the usual type of numbers, where no argument has one.
        zeros: an array of a ``shape``, of the type of the array ``like``.
        constant: a number, or lists of numbers, ``value`` as an array of that type.
        copied: an array of its own.
        permuted: an array with its axes in an ``order``.
        einsum, tensordot: products of arrays.
        square_root: of ``z``; the language of formulas writes it as a power.
        onto_diagonal: a statement that adds a ``value`` to the diagonals of an ``array``, which an
            einsum's ``subscripts`` name, and which are the ``diagonal`` as well; ``spread`` is the
            value on them, and zero elsewhere.
        diagonal: that of two axes, which goes last.
        unit: the unit matrix along an ``axis`` of the array; ``unit_of_size`` is the one of ``n``
            rows, of the type of the array ``like``.
        plus_transposed: a statement that adds the transpose of a large ``matrix`` to another one,
            the ``array``; ``k`` is a free name.
        joined: matrices, ``arrays``, one after the other along an ``axis``.
        result: a ``value`` that has no axes, as an array.
    """

    name: str
    operations: str
    modules: Mapping[str, str] = field(hash=False)
    array: str
    any_array: str
    zeros: str
    constant: str
    copied: str
    permuted: str
    einsum: str
    tensordot: str
    square_root: str
    onto_diagonal: str
    diagonal: str
    unit: str
    unit_of_size: str
    plus_transposed: str
    joined: str
    result: str

    def function(self, name: str) -> str:
        """The code of a function in ``z``; empty where it has none."""
        if name == "sqrt":
            return self.square_root
        record = FUNCTIONS.get(name) or ARRAY_FUNCTIONS.get(name)
        return "" if record is None else getattr(record, self.operations)

    @property
    def roots(self) -> set[str]:
        """The names under which code finds its modules."""
        return {path.split(".")[0] for path in self.modules.values()}

    def names(self, *taken: str) -> Names:
        """The identifiers of one function: not those of the modules that it calls."""
        return Names([*taken, *self.roots])

    def tree(self, word: str, **places: Any) -> Any:
        """A word, or a function's code, with its places filled and its modules called as here."""
        for path, path_here in self.modules.items():
            if path != path_here:
                word = re.sub(rf"(?<![\w.]){re.escape(path)}\.", f"{path_here}.", word)
        return tree(word, **places)


NUMPY = Backend(
    name="numpy",
    operations="numpy",
    modules={"numpy": "numpy", "math": "math", "scipy.special": "scipy.special"},
    array="array",
    any_array="numpy.ones(())",
    zeros="numpy.zeros(shape, like.dtype)",
    constant="numpy.array(value, like.dtype)",
    copied="array.copy()",
    permuted="array.transpose(*order)",
    einsum="numpy.einsum(subscripts, *arrays)",
    tensordot="numpy.tensordot(left, right, axes)",
    square_root="numpy.sqrt(z)",
    # NumPy's own diagonal cannot be written to; what einsum gives of one array can.
    onto_diagonal="numpy.einsum(subscripts, array)[...] += value",
    diagonal="array.diagonal(0, first, second)",
    unit="numpy.eye(array.shape[axis], dtype=array.dtype)",
    unit_of_size="numpy.eye(n, dtype=like.dtype)",
    # Down the columns of a large matrix each entry is a line of the cache; in strips those stay.
    plus_transposed=(
        "for k in range(0, len(array), 64): array[k:k + 64] += matrix[:, k:k + 64].copy().T"
    ),
    joined="numpy.concatenate(arrays, axis)",
    # Arithmetic with arrays without axes gives NumPy's scalars.
    result="numpy.asarray(value)",
)

TORCH = Backend(
    name="torch",
    operations="torch",
    modules={"torch": "torch", "math": "math"},
    array="tensor",
    any_array="torch.ones(())",
    zeros="like.new_zeros(shape)",
    constant="like.new_tensor(value)",
    copied="array.clone()",
    permuted="array.permute(*order)",
    einsum="torch.einsum(subscripts, *arrays)",
    tensordot="torch.tensordot(left, right, axes)",
    square_root="torch.sqrt(z)",
    onto_diagonal="diagonal.add_(value)",
    diagonal="array.diagonal(dim1=first, dim2=second)",
    unit="torch.eye(array.shape[axis], dtype=array.dtype, device=array.device)",
    unit_of_size="torch.eye(n, dtype=like.dtype, device=like.device)",
    # PyTorch copies a transpose in tiles, and adds it entry by entry.
    plus_transposed="array += matrix.T.contiguous()",
    joined="torch.cat(arrays, axis)",
    result="value",
)

# Its arrays are never written to: a name gets a new one.
JAX = replace(
    NUMPY,
    name="jax",
    modules={"numpy": "jax.numpy", "math": "math", "scipy.special": "jax.scipy.special"},
    onto_diagonal="array += spread",
    plus_transposed="array += matrix.T",
)

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (NUMPY, TORCH, JAX)}
