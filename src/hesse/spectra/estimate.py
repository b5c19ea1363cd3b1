"""A number, how far it may be off, and what it took."""

from dataclasses import dataclass
from typing import Any, NoReturn, final

import numpy as np

from hesse.display import Display, Displayed, facts
from hesse.linear_operators.absent import NoArithmetic


@final
@dataclass(frozen=True, repr=False)
class Estimate(NoArithmetic, Displayed):
    """A number with its standard error.

    Attributes:
        value: the number.
        error: its standard error, over the random vectors that were drawn, or what ``measure``
            says; 0 where it is exact.
        products: how many products with the matrix it took.
        how: by what it was found.
        exact: whether nothing was estimated, so that only rounding is left.
        notes: what else is worth knowing.
        measure: what the error is.

    Examples:
        >>> e = Estimate(3.25, 0.04, 60, "by 45 vectors")
        >>> print(e)
        3.25 ± 0.04 (standard error; 60 products, by 45 vectors)
        >>> float(e), f"{e:.1f}"
        (3.25, '3.2 ± 0.0')
    """

    value: float
    error: float = 0.0
    products: int = 0
    how: str = ""
    exact: bool = False
    notes: tuple[str, ...] = ()
    measure: str = "standard error"

    _no_number = (
        "e: an estimate has an error beside its value, which arithmetic would lose; reckon with"
        " float(e), or with e.value and e.error"
    )

    def __float__(self) -> float:
        return self.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Its value, for what draws and tabulates."""
        return np.array(self.value, dtype)

    def __array_ufunc__(self, *called: Any, **options: Any) -> NoReturn:
        self._refuse_arithmetic()

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        error = "" if self.exact else f" ± {self.error:{spec}}"
        return f"{self.value:{spec}}{error}"

    def _display(self) -> Display:
        error = "none but rounding: exact" if self.exact else f"{self.error:.2g}, {self.measure}"
        return Display(
            "Estimate",
            f"{self.value:.6g}" + ("" if self.exact else f" ± {self.error:.2g}"),
            facts(
                error=error,
                found=self.how,
                products=f"{self.products:,}" if self.products else None,
                notes="\n".join(self.notes),
            ),
            next=("float(e)", "e.value", "e.error"),
        )

    def __str__(self) -> str:
        taken = f"{self.products} product{'s' * (self.products != 1)}"
        about = f"exact, {self.how}" if self.exact else f"{self.measure}; {taken}, {self.how}"
        error = "" if self.exact else f" ± {self.error:.2g}"
        return "\n".join([f"{self.value:.6g}{error} ({about})", *self.notes])
