"""Results as fields of a JSON document, under the names that `docs/command-line.md` lists."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

    import hesse

Fields = dict[str, Any]


def plain(value: Any) -> Any:
    """What JSON has: a number that is not finite as the text that Python and JavaScript read it
    from, a record by its fields.

    Examples:
        >>> plain({"radius": float("inf"), "shape": (2, 3), "of": np.float32(0.5)})
        {'radius': 'Infinity', 'shape': [2, 3], 'of': 0.5}
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if hasattr(value, "_asdict"):  # a tuple whose parts have names
        return plain(value._asdict())
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, PathLike):
        return fspath(value)
    if is_dataclass(value):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    return str(value)


def cost_fields(cost: "hesse.Cost", curvature: str = "hessian") -> Fields:
    """What is asked about, and which of its second derivatives."""
    return {
        "model": cost.name,
        "loss": None if cost.loss is None else cost.loss.name,
        "samples": cost.samples,
        "penalty": cost.penalty,
        "P": cost.layout.size,
        "parameters": dict(zip(cost.layout.names, cost.layout.shapes, strict=True)),
        "curvature": curvature,
        "dtype": cost.dtype,
        "device": str(cost.device),
    }


def plan_fields(plan: "hesse.Plan") -> Fields:
    """What would be done."""
    return {
        "captured": plan.captured,
        "operations": plan.operations,
        "seconds": plan.seconds,
        "peak_bytes": plan.peak_bytes,
        "result_bytes": plan.result_bytes,
        "samples": plan.samples,
        "chunk": plan.chunk,
        "disk": plan.on_disk,
        "processes": plan.spread.processes,
        "nodes": plan.spread.nodes,
        "network_bytes": plan.network,
        "too_large": plan.too_large or None,
        "notes": plan.notes,
        "blocks": [
            {
                "rows": block.names[0],
                "columns": block.names[-1],
                "shape": block.shape,
                "strategy": block.strategy,
                "order": block.order,
                "operations": block.operations,
                "intermediate_bytes": block.intermediate,
            }
            for block in plan.blocks
        ],
    }


def hessian_fields(H: "hesse.BlockHessian") -> Fields:
    """Its blocks, by their norms, and what it was held against."""
    return {
        "P": H.layout.size,
        "dtype": H.dtype,
        "bytes": H.entries.nbytes,
        "blocks": [
            {
                "rows": rows,
                "columns": columns,
                "shape": [*H.layout.shape(rows), *H.layout.shape(columns)],
                "norm": norm,
            }
            for (rows, columns), norm in H.norms.items()
        ],
        "certificate": H.certificate,
    }


def status_fields(status: "hesse.Status") -> Fields:
    """How far a store is."""
    return {
        **plain(status),
        "finished": status.is_finished,
        "seconds_left": status.seconds_left,
    }


def trust_fields(trust: "hesse.Trust") -> Fields:
    """How far a model is to be trusted; the direction is left out."""
    names = ("radius", "tolerance", "order", "reason", "norms", "true", "model", "error")
    return {name: getattr(trust, name) for name in (*names, "rounding")}


def stationary_fields(point: "hesse.StationaryPoint") -> Fields:
    """Where the model is stationary."""
    return {
        "kind": point.kind,
        "inertia": {
            "negative": point.negative,
            "undecided": point.undecided,
            "positive": point.positive,
        },
        "complete": point.complete,
        "distance": None if point.vector is None else float(torch.linalg.vector_norm(point.vector)),
        "value": point.value,
    }


def step_fields(step: "hesse.Step") -> Fields:
    """What a step promises and does."""
    return {
        "norm": step.norm,
        "predicted": step.predicted,
        "actual": step.actual(),
        "multiplier": step.multiplier,
        "reason": step.reason,
    }


def minimum_fields(result: "OptimizeResult") -> Fields:
    """How a run went."""
    return {
        "method": result.method,
        "success": bool(result.success),
        "message": result.message,
        "iterations": result.nit,
        "value": result.fun,
        "gradient_norm": abs(result.jac).max(initial=0.0),
        "radius": result.radius,
        "evaluations": result.nfev,
        "hessians": result.nhev,
        "certificates": result.certificates,
    }


def layers_fields(layers: "hesse.Layers") -> Fields:
    """Trace and largest eigenvalue, of all and by layer."""
    return {"whole": layers.whole, "layers": layers.rows}


def eigenpairs_fields(pairs: "hesse.Eigenpairs") -> Fields:
    """Values and residuals; the vectors are left out."""
    names = ("values", "residuals", "products", "converged", "how", "notes")
    return {name: getattr(pairs, name) for name in names}


def report_fields(report: "hesse.Report") -> Fields:
    """What is on a page."""
    return {
        "sections": [
            {"title": title, "refused": why or None} for title, why in report.refused.items()
        ],
        "out": report.path,
    }


def formula_fields(formula: "hesse.Formula", backend: str) -> Fields:
    """A formula in each way that it is written."""
    return {
        "text": formula.text(),
        "matrix": formula.matrix(),
        "latex": formula.latex(),
        "python": formula.python(backend),
    }
