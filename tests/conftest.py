"""For the whole run: every annotation in hesse is checked as it is called, shapes included, and workers share the cores."""

import importlib
import os
import pkgutil
from pathlib import Path

import jaxtyping
import torch
from beartype import BeartypeConf
from beartype.claw import beartype_package

# Before anything imports hesse. The tower lets an int stand for a float, as Python's typing does. What derives formulas works on
# expressions, not on arrays: there beartype alone checks, because jaxtyping's share of each call would cost more than the call.
CHECK = BeartypeConf(is_pep484_tower=True)
ROOMS = pkgutil.iter_modules([str(Path(__file__).parents[1] / "src" / "hesse")])
jaxtyping.install_import_hook(
    [f"hesse.{room.name}" for room in ROOMS if room.name != "derivation"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)
beartype_package("hesse.derivation", conf=CHECK)

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))

# What a module names in annotations alone is put there, so that it can be checked: importing it would close a circle.
for _room in ("certify", "notation.html", "notation.latex", "notation.outline", "notation.text"):
    _module = importlib.import_module(f"hesse.derivation.{_room}")
    vars(_module)["Derivation"] = importlib.import_module("hesse.derivation.derivation").Derivation
