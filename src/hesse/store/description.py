"""What a store says of itself beside its tiles, as attributes of its group."""

import json
import zlib
from types import NoneType
from typing import Any

import torch

from hesse.certificates.certificate import Certificate
from hesse.exact.fallback import Strategy
from hesse.store.tiling import Tiling

# Of the description: it goes up when a store of an older hesse could be misread.
FORMAT = 2
# Of what kind each part of a description is; a store that `save_store` wrote has the first two.
_KINDS: dict[str, tuple[type, ...]] = {
    "provenance": (dict,),
    "certificate": (dict, NoneType),
    "fingerprint": (dict,),
    "failures": (dict,),
    "plan": (dict,),
    "memory": (int,),
    "seconds": (int, float),
}


def name_of(dtype: torch.dtype) -> str:
    """As zarr writes it."""
    return str(dtype).removeprefix("torch.")


def described(tiling: Tiling, dtype: torch.dtype, description: dict[str, Any]) -> dict[str, Any]:
    """The attributes, with their checksum."""
    held = {
        "format": FORMAT,
        "dtype": name_of(dtype),
        "tiles": tiling.to_json(),
        "description": description,
    }
    return {"hesse": held, "checksum": checksum_of(held)}


def sound_description(held: Any) -> dict[str, Any]:
    """What a store says of itself, each part of its kind: what wrote the checksum need not have
    been hesse."""
    if not isinstance(held, dict) or not {"provenance", "certificate"} <= set(held):
        raise ValueError("its description lacks its provenance or its certificate")
    for name, kinds in _KINDS.items():
        if name in held and not isinstance(held[name], kinds):
            raise ValueError(f"its {name} is {type(held[name]).__name__}")
    if not all(isinstance(part, str) for item in held["provenance"].items() for part in item):
        raise ValueError("its provenance is not text by name")
    if held["certificate"] is not None:
        Certificate.from_json(held["certificate"])
    for strategy, reason in held.get("failures", {}).values():
        Strategy(strategy)
        if not isinstance(reason, str):
            raise ValueError("the reason of a failure is no text")
    for part in ("value", "gradient"):
        float(held.get("fingerprint", {}).get(part, "nan"))
    product = held.get("fingerprint", {}).get("product", ["nan"] * 3)
    if len([float(each) for each in product]) != 3:
        raise ValueError("its fingerprint has another product")
    return held


def summed(squares: list[list[Any]]) -> dict[str, Any]:
    """The sums of squares of a block's tiles, as attributes of it."""
    return {"squares": squares, "checksum": checksum_of(squares)}


def checksum_of(held: Any) -> str:
    """Of what is written as JSON."""
    return f"{zlib.crc32(json.dumps(held, sort_keys=True).encode()):08x}"
