"""What an operator is multiplied with: flat vectors, matrices of them, and vectors by parts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hesse.errors import HesseTypeError, HesseValueError, require_strided
from hesse.layout import Layout

DtypeOf = Callable[[str], torch.dtype]


def layout_of_vector(size: int) -> Layout:
    """The layout of a vector without named parts: one, ``"x"``."""
    return Layout(("x",), ((size,),))


def require_vector(v: Any, what: str, dtype: torch.dtype, device: torch.device) -> None:
    """Raise on what is no tensor of finite numbers, of this dtype and on this device.

    Raises:
        HesseTypeError: no tensor, or another dtype.
        HesseValueError: another device, or entries that are not finite.
    """
    if not isinstance(v, Tensor):
        raise HesseTypeError(f"{what}: expected a tensor, got {type(v).__name__}")
    require_strided(v, what)
    if v.dtype != dtype:
        raise HesseTypeError(
            f"{what}: expected {dtype} like the parameters, got {v.dtype}; convert it with"
            f" .to({dtype})"
        )
    if v.device != device:
        raise HesseValueError(
            f"{what}: expected a tensor on {device}, where the parameters are, got {v.device}"
        )
    if torch._C._functorch.is_batchedtensor(v):  # type: ignore[attr-defined]
        raise HesseTypeError(
            f"{what}: expected a tensor with entries, got one inside torch.vmap; give a matrix"
            " (P, K), whose columns are multiplied with side by side"
        )
    if v.is_meta:
        raise HesseValueError(f"{what}: expected a tensor with entries, got one on the meta device")
    # A sum is one pass, and finite only where every entry is; it may overflow where they are.
    if not bool(v.sum().isfinite()) and not bool(v.isfinite().all()):
        bad = int((~torch.isfinite(v)).sum())
        raise HesseValueError(
            f"{what}: {bad} of its {v.numel()} entries are not finite (nan or inf)"
        )


def require_columns(v: Any, layout: Layout, what: str = "v") -> Tensor:
    """A flat vector (P,) or a matrix (P, K) for a layout; the entries are not looked at.

    Raises:
        HesseTypeError: no tensor.
        HesseValueError: another shape.
    """
    if not isinstance(v, Tensor):
        raise HesseTypeError(
            f"{what}: expected a flat tensor of P = {layout.size} entries, a (P, K) matrix, a"
            f" dictionary {{name: Tensor}} or a list of tensors, got {type(v).__name__};"
            " torch.from_numpy takes NumPy arrays, op.to_scipy() serves SciPy"
        )
    require_strided(v, what)
    if v.ndim not in (1, 2) or v.shape[0] != layout.size:
        raise HesseValueError(
            f"{what}: expected shape ({layout.size},) or ({layout.size}, K), got {tuple(v.shape)}"
        )
    return v


def parts_by_name(
    v: Mapping[str, Tensor] | Sequence[Tensor], layout: Layout, what: str = "v"
) -> Mapping[str, Tensor]:
    """The parts of a vector, given by name or in the layout's order.

    Raises:
        HesseValueError: a list of another length than the layout.
    """
    if isinstance(v, Mapping):
        return v
    if len(v) != len(layout.names):
        raise HesseValueError(
            f"{what}: expected {len(layout.names)} tensors, in the order of"
            f" {', '.join(map(repr, layout.names[:3]))}, got {len(v)}"
        )
    return dict(zip(layout.names, v, strict=True))


def flat_vector(
    v: Mapping[str, Tensor] | Sequence[Tensor],
    layout: Layout,
    dtype_of: DtypeOf,
    device: torch.device,
    what: str = "v",
) -> Tensor:
    """One flat vector from its parts, checked one by one.

    Raises:
        HesseTypeError: a part that is no tensor, or has another dtype.
        HesseValueError: a wrong shape, another device, or entries that are not finite.
        HesseKeyError: missing or unknown names.
    """
    parts = parts_by_name(v, layout, what)
    for name, part in parts.items():
        if name in layout.names:
            require_vector(part, f"{what}[{name!r}]", dtype_of(name), device)
    return layout.flatten(parts, what)


def alike(
    flat: Tensor, v: Mapping[str, Tensor] | Sequence[Tensor], layout: Layout, dtype_of: DtypeOf
) -> dict[str, Tensor] | list[Tensor]:
    """A flat vector in parts, by name or in order as ``v`` is."""
    parts = {name: part.to(dtype_of(name)) for name, part in layout.unflatten(flat).items()}
    return parts if isinstance(v, Mapping) else list(parts.values())


def spread(v: Tensor, some: Layout, whole: Layout) -> Tensor:
    """The vector of all parts that has some of them, and zeros."""
    found = v.new_zeros(whole.size, *v.shape[1:])
    for name in some.names:
        found[whole.slice(name)] = v[some.slice(name)]
    return found


def picked(v: Tensor, some: Layout, whole: Layout) -> Tensor:
    """Some parts of a vector of all of them."""
    return torch.cat([v[whole.slice(name)] for name in some.names])
