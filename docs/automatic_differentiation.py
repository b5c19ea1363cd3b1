"""Draws the picture of the page of this name, with the numbers that the page begins with.

python docs/automatic_differentiation.py
"""

import os
import re
from pathlib import Path
from typing import Any

import torch

from hesse.derivation.sources.language import program
from hesse.derivation.sweeps.computation import computation
from hesse.derivation.sweeps.drawing import svg
from hesse.derivation.sweeps.subject import Subject

PAGE = Path(__file__).with_name("automatic-differentiation.md")
COST = "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)"


def picture() -> str:
    """The picture, as it should stand beside the page."""
    first = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert first is not None
    named: dict[str, Any] = {}
    exec(first[1], named)
    arrays = {name: torch.as_tensor(named[name]) for name in ("W1", "W2", "x", "y")}
    subject = Subject(*program(COST, "W1, W2"), arrays, {"f": torch.sigmoid})
    v = {"W1": torch.as_tensor(named["V1"]), "W2": torch.as_tensor(named["V2"])}
    return svg(computation(subject, v), "The four sweeps through a two-layer network")


if __name__ == "__main__":
    partial = PAGE.with_suffix(".partial")
    partial.write_text(picture(), encoding="utf-8")
    os.replace(partial, PAGE.with_suffix(".svg"))
