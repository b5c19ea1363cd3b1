"""An operator as SciPy's."""

from typing import TYPE_CHECKING, Any

import torch

from hesse.errors import HesseTypeError

if TYPE_CHECKING:
    import scipy.sparse.linalg

    from hesse.linear_operators.linear_operator import LinearOperator


def scipy_operator(operator: "LinearOperator") -> "scipy.sparse.linalg.LinearOperator":
    """SciPy's operator of the same products: NumPy arrays in and out, of the operator's dtype."""
    # SciPy's linear algebra takes a tenth of a second to import.
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

    forward, backward = _product_of(operator), _product_of(operator.T)
    products: dict[str, Any] = {
        **{"matvec": forward, "matmat": forward},
        **{"rmatvec": backward, "rmatmat": backward},
    }
    return ScipyOperator(
        shape=operator.shape,
        dtype=torch.empty((), dtype=operator.dtype, device="cpu").numpy().dtype,
        **products,
    )


def _product_of(operator: "LinearOperator") -> Any:
    def product(x: Any) -> Any:
        # A conversion would drop the imaginary part with a warning only.
        if x.dtype.kind == "c":
            raise HesseTypeError(
                "v: expected real numbers, got complex ones; multiply real and imaginary parts"
                " apart"
            )
        # SciPy gives vectors of shape (P,) and (P, 1), and expects what it gave.
        columns = x[:, None] if x.ndim == 1 else x
        v = torch.tensor(columns, dtype=operator.dtype, device=operator.device)
        found = (operator @ (v[:, 0] if v.shape[1] == 1 else v)).cpu().numpy()
        return found.reshape(operator.shape[0], *x.shape[1:])

    return product
