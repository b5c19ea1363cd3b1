"""The certificate: what numbers were held against, how much of them, and how far the two were
apart."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hesse.display import Display, Displayed, facts
from hesse.errors import HesseValueError


@dataclass(frozen=True, repr=False)
class Certificate(Displayed):
    """What numbers were held against. ``print(certificate)`` says it in a line.

    Attributes:
        deviation: the largest difference found, relative to the scale of what was compared.
        compared: what was compared, and how much of all there is.
        method: the independent way.
        samples: how many samples both ways saw.
        seconds: what it took.
        rounding: differences up to this, on the same scale, are rounding, and an error below it
            could hide there.
        notes: what else is to be known.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(
        ...     lambda p: (p["x"] ** 3).sum(), {"x": torch.ones(2).double()}
        ... )
        >>> hesse.hessian(cost).certificate.deviation < 1e-12
        True
    """

    deviation: float
    compared: str
    method: str
    samples: int
    seconds: float
    rounding: float
    notes: tuple[str, ...] = ()

    def _display(self) -> Display:
        return Display(
            "Certificate",
            f"within {self.deviation:.1g} of {self.method}",
            facts(
                compared=self.compared,
                samples=f"{self.samples:,}",
                seconds=f"{self.seconds:.2g}",
                rounding=f"could hide {self.rounding:.1g}",
                notes="\n".join(self.notes),
            ),
            next=("certificate.deviation", "certificate.rounding"),
        )

    def __str__(self) -> str:
        samples = f"{self.samples} sample{'s' * (self.samples != 1)}"
        return "; ".join(
            [
                (
                    f"within {self.deviation:.1g} of {self.method}: {self.compared}, {samples},"
                    f" {self.seconds:.2g} s"
                ),
                f"rounding could hide {self.rounding:.1g}",
                *self.notes,
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a file."""
        return asdict(self)

    @staticmethod
    def from_json(values: Any) -> "Certificate":
        """Back from plain values, each checked: a file's text is not to be trusted.

        Raises:
            HesseValueError: they are not a certificate's.
        """
        kinds: dict[str, type | tuple[type, ...]] = {
            "deviation": (int, float),
            "compared": str,
            "method": str,
            "samples": int,
            "seconds": (int, float),
            "rounding": (int, float),
            "notes": list,
        }
        if not isinstance(values, Mapping) or set(values) != set(kinds):
            raise HesseValueError("its certificate has other entries")
        for name, kind in kinds.items():
            if not isinstance(values[name], kind) or isinstance(values[name], bool):
                raise HesseValueError(f"the {name} of its certificate is not of its kind")
        if not all(isinstance(note, str) for note in values["notes"]):
            raise HesseValueError("the notes of its certificate are not text")
        return Certificate(**{**values, "notes": tuple(values["notes"])})


def worst(*deviations: float) -> float:
    """The largest of some deviations, nan counting as larger than any."""
    return max((math.inf if math.isnan(d) else d for d in deviations), default=0.0)
