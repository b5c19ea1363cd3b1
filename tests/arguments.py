"""Every argument of every public function, driven through what it should not be.

A row is a function, arguments that it works with, and of each the values that are fine. Run as a
script, without the checks of annotations that the test run installs: `python tests/arguments.py`.
"""

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy
import torch
from matplotlib.figure import Figure
from torch import nn

import hesse

NAN = float("nan")
VALUES: dict[str, Any] = {
    "None": None,
    "object": object(),
    "bytes": b"x",
    "empty text": "",
    "empty list": [],
    "empty dict": {},
    "huge": 10**30,
    "negative": -1,
    "half": 0.5,
    "true": True,
    "nan": NAN,
    "inf": float("inf"),
    "a name": "nope",
    "names": ["nope"],
    "name to nan": {"nope": torch.tensor(NAN)},
    "empty tensor": torch.zeros(0),
    "nan tensor": torch.full((17,), NAN),
    "array": numpy.ones(2),
    "whole tensor": torch.ones(17, dtype=torch.int64),
    "a class": nn.Linear,
}
KINDS = (TypeError, ValueError, KeyError, MemoryError, ImportError, OSError)
FLAG = {"true"}
OPTION = {"true", "None"}
COUNT = {"huge"}


def unfit(fits: Any) -> dict[str, Any]:
    """For an argument that is a vector, or tensors by name, others that are none."""
    if isinstance(fits, torch.Tensor) and fits.is_floating_point():
        return {
            "three axes": fits.reshape(-1, 1, 1),
            "half precision": fits.half(),
            "no entries": fits.to("meta"),
            "sparse": fits.to_sparse(),
        }
    if (
        isinstance(fits, dict)
        and fits
        and isinstance(part := next(iter(fits.values())), torch.Tensor)
    ):
        return {
            "another shape": {**fits, next(iter(fits)): torch.ones(7)},
            "one axis more": {**fits, next(iter(fits)): part.unsqueeze(0)},
            "whole numbers": {**fits, next(iter(fits)): part.long()},
            "two devices": {**fits, next(iter(fits)): part.to("meta")},
        }
    return {}


class Row(NamedTuple):
    """A call that works, and what of its arguments may also be."""

    call: Callable[..., Any]
    arguments: Mapping[str, Any]
    fine: Mapping[str, set[str]]
    said: Mapping[str, str] = {}


X, Y = torch.linspace(-1, 1, 12).reshape(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])


def net() -> nn.Module:
    """P = 17."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))


def scalar(params: dict[str, torch.Tensor]) -> torch.Tensor:
    return (params["u"] ** 4).sum()


def rows() -> Iterator[tuple[str, Row]]:
    """Every public function that takes arguments."""
    model = net()  # minimize(apply=True) writes it
    cost = hesse.Cost(model, "cross_entropy", (X, Y), penalty=0.1)
    H, q, u = hesse.hessian(cost), hesse.quadratic(cost), {"u": torch.ones(2)}
    operator, layout, ax = hesse.operator(cost), cost.layout, Figure().add_subplot()
    step = {"s": torch.ones(17)}
    memory = {"None", "huge"}
    shapes, other_numbers = {"another shape", "one axis more"}, {"half precision", "no entries"}
    anything = {*shapes, "whole numbers", "two devices"}
    common = {"cost": cost, "curvature": "hessian", "memory": 10**9}
    pairs = [("0.weight", "0.bias")]
    yield (
        "Cost",
        Row(
            hesse.Cost,
            {"model": net(), "loss": "cross_entropy", "data": (X, Y), "params": None, "penalty": 1},
            {
                "params": {"None"},
                "penalty": {"None", "half", "huge"},
            },
        ),
    )
    yield (
        "Cost.from_function",
        Row(
            hesse.Cost.from_function,
            {"f": scalar, "params": u, "data": None, "reduction": "sum", "penalty": None},
            {"params": shapes, "data": {"None"}, "penalty": {"None", "half", "huge"}},
        ),
    )
    yield (
        "Cost.at",
        Row(
            cost.at,
            {"parameters": cost.parameters},
            {"parameters": {"whole tensor", "whole numbers"}},
            {"parameters": "params|parameters|layout"},
        ),
    )
    batch, dictionaries = next(cost.batches()), {"empty dict", "name to nan"}
    for name in ("total", "predict", "predict_and_total", "batch_cost"):
        yield (
            f"Cost.{name}",
            Row(
                getattr(cost, name),
                {"parameters": cost.parameters, "batch": batch},
                # On shapes alone a cost runs too.
                {"parameters": {*dictionaries, "two devices"}},
            ),
        )
    for name in ("penalty_cost", "holding"):
        yield (
            f"Cost.{name}",
            Row(
                getattr(cost, name),
                {"parameters": cost.parameters},
                {"parameters": {*dictionaries, *anything}},
            ),
        )
    yield (
        "hessian",
        Row(
            hesse.hessian,
            {
                **common,
                "pairs": pairs,
                "certify": True,
                "progress": False,
            },
            {"pairs": {"None"}, "memory": memory, "certify": FLAG, "progress": OPTION},
        ),
    )
    yield (
        "hessian",
        Row(hesse.hessian, {"cost": cost, "block_diagonal": True}, {"block_diagonal": FLAG}),
    )
    yield (
        "diagonal",
        Row(
            hesse.diagonal,
            {**common, "certify": True, "progress": False},
            {"memory": memory, "certify": FLAG, "progress": OPTION},
        ),
    )
    yield (
        "operator",
        Row(hesse.operator, {**common, "certify": True}, {"memory": memory, "certify": FLAG}),
    )
    yield (
        "per_sample",
        Row(
            hesse.per_sample,
            {**common, "what": "hessian", "pairs": pairs, "certify": True},
            {"pairs": {"None"}, "memory": memory, "certify": FLAG},
        ),
    )
    yield "jacobian", Row(hesse.jacobian, {"cost": cost, "certify": True}, {"certify": FLAG})
    jacobian = hesse.jacobian(cost)
    yield "JacobianOperator @", Row(jacobian.__matmul__, {"v": cost.theta}, {})
    yield "plan", Row(hesse.plan, {**common, "pairs": pairs}, {"pairs": {"None"}, "memory": memory})
    yield "plan", Row(hesse.plan, {"cost": cost, "block_diagonal": True}, {"block_diagonal": FLAG})
    yield "value", Row(hesse.value, {"cost": cost}, {})
    yield "gradient", Row(hesse.gradient, {"cost": cost}, {})
    yield (
        "quadratic",
        Row(
            hesse.quadratic,
            {**common, "dense": None, "products": 10, "progress": False},
            {"memory": memory, "dense": OPTION, "products": COUNT, "progress": OPTION},
        ),
    )
    yield (
        "minimize",
        Row(
            hesse.minimize,
            {
                **common,
                "method": "trust-exact",
                "start": None,
                "tolerance": 1e-2,
                "maxiter": 2,
                "radius": 1.0,
                "dense": None,
                "callback": None,
                "certify": True,
                "apply": False,
                "progress": False,
            },
            {
                "start": {"None", "whole tensor"},
                "tolerance": {"half", "huge"},
                "maxiter": COUNT,
                "radius": {"None", "half", "huge"},
                "memory": memory,
                "dense": OPTION,
                "callback": {"None"},
                "certify": FLAG,
                "apply": FLAG,
                "progress": OPTION,
            },
            {"start": "start|params|layout"},
        ),
    )
    yield (
        "kfac",
        Row(
            hesse.kfac,
            {
                **common,
                "curvature": "gauss_newton",
                "kind": "kfac",
                "sharing": "expand",
                "joint_bias": True,
                "progress": False,
            },
            {"memory": memory, "joint_bias": FLAG, "progress": OPTION},
        ),
    )
    K = hesse.kfac(cost)
    damping = {"half", "huge"}
    yield (
        "KFAC.block",
        Row(K.block, {"a": "0.weight", "b": None}, {"b": {"None"}}, dict.fromkeys("ab", "name")),
    )
    yield "KFAC.inverse", Row(K.inverse, {"damping": 0.1, "how": "pi"}, {"damping": damping})
    yield "KFAC.logdet", Row(K.logdet, {"damping": 0.1}, {"damping": damping})
    yield (
        "KFAC.compare",
        Row(
            K.compare,
            {"curvatures": "hessian", "names": "2.bias", "damping": 0.1},
            {"names": {"None"}, "damping": {"None", *damping}},
            {"curvatures": "curvature", "names": "name|parameter"},
        ),
    )
    yield "KFAC.load", Row(hesse.KFAC.load, {"path": "/nope/k"}, {}, {"path": "load"})
    # What the next two find under the name.
    yield "KFAC.save", Row(K.save, {"path": "/nope/k"}, {"path": {"a name"}}, {"path": "save"})
    yield "load", Row(hesse.load, {"path": "nope"}, {"path": {"a name"}}, {"path": "load"})
    yield (
        "report",
        Row(
            hesse.report,
            {"cost": cost, "path": "/nope/r.html", "memory": None, "progress": False},
            {},
            {"cost": "cost|path", "memory": "memory|path", "progress": "progress|path"},
        ),
    )
    yield "status", Row(hesse.status, {"path": "nope"}, {}, {"path": "status"})
    yield "plan", Row(hesse.plan, {"cost": cost, "out": None}, {"out": {"None"}})
    spread = {"cost": cost, "processes": 2, "nodes": 3}
    yield "plan", Row(hesse.plan, spread, {"processes": COUNT, "nodes": COUNT})
    yield "Layout", Row(hesse.Layout, {"names": ("a",), "shapes": ((2,),)}, {})
    yield (
        "Layout.of",
        Row(hesse.Layout.of, {"tensors": u}, {"tensors": {*dictionaries, *anything}}),
    )
    for name in ("shape", "index", "slice"):
        yield f"Layout.{name}", Row(getattr(layout, name), {"name": "0.bias"}, {})
    yield (
        "Layout.flatten",
        Row(
            layout.flatten,
            {"tensors": cost.parameters},
            {"tensors": {"whole numbers"}},
            {"tensors": "tensors|layout"},
        ),
    )
    yield (
        "Layout.unflatten",
        Row(
            layout.unflatten,
            {"vector": cost.theta},
            {"vector": {"nan tensor", "whole tensor", *other_numbers}},
        ),
    )
    yield (
        "BlockHessian",
        Row(
            hesse.BlockHessian,
            {"layout": layout, "matrix": torch.eye(17), "provenance": {}, "certificate": None},
            {
                "matrix": other_numbers,
                "provenance": {"None", "empty dict"},
                "certificate": {"None"},
            },
        ),
    )
    yield (
        "BlockHessian",
        Row(
            hesse.BlockHessian,
            {"layout": layout, "blocks": {("0.bias", "0.bias"): torch.eye(3)}},
            {"blocks": {"whole numbers", "two devices"}},
        ),
    )
    yield (
        "BlockHessian.of",
        Row(
            hesse.BlockHessian.of,
            {"entries": H.entries, "provenance": {}, "certificate": None},
            {"provenance": {"None", "empty dict"}, "certificate": {"None"}},
        ),
    )
    yield "BlockHessian[]", Row(H.__getitem__, {"pair": ("0.bias", "0.bias")}, {}, {"pair": "H\\["})
    yield "BlockHessian.flat", Row(H.flat, {"a": "0.bias", "b": "0.bias"}, {}, {"b": "name"})
    yield "BlockHessian @", Row(H.__matmul__, {"v": cost.theta}, {"v": {"nan tensor", "sparse"}})
    yield (
        "BlockHessian.save",
        Row(H.save, {"path": "/nope/h"}, {"path": {"a name"}}, {"path": "save"}),
    )
    yield (
        "BlockHessian.with_certificate",
        Row(H.with_certificate, {"certificate": H.certificate}, {"certificate": {"None"}}),
    )
    yield "HessianOperator @", Row(operator.__matmul__, {"v": cost.theta}, {})
    plain, matrix = {"curvature": {"None"}}, {"what": "what|matrix"}
    yield (
        "as_operator",
        Row(hesse.as_operator, {"what": cost, "curvature": None}, plain, matrix),
    )
    yield (
        "FunctionOperator",
        Row(
            hesse.FunctionOperator,
            {
                "product": torch.neg,
                "rows": layout,
                "columns": layout,
                "transposed": torch.neg,
                "dtype": torch.float32,
                "device": "cpu",
            },
            {
                "product": {"a class"},
                "columns": {"None"},
                "transposed": {"None", "a class"},
            },
        ),
    )
    A = hesse.as_operator(H)
    yield "LinearOperator[]", Row(A.__getitem__, {"names": "0.bias"}, {}, {"names": "name"})
    yield (
        "LinearOperator.block_diagonal",
        Row(A.block_diagonal, {"by": "layer"}, {}),
    )
    yield (
        "LinearOperator.damped",
        Row(A.damped, {"damping": 1.0}, {"damping": {"huge", "negative", "half"}}),
    )
    yield (
        "LinearOperator *",
        Row(A.__mul__, {"factor": 2.0}, {"factor": {"huge", "negative", "half"}}),
    )
    yield (
        "LinearOperator /",
        Row(A.__truediv__, {"divisor": 2.0}, {"divisor": {"huge", "negative", "half"}}),
    )
    yield "LinearOperator +", Row(A.__add__, {"other": A}, {}, {"other": "operator"})
    yield (
        "DiagonalOperator",
        Row(
            hesse.DiagonalOperator,
            {"entries": cost.parameters, "layout": layout},
            {"entries": {"whole numbers"}, "layout": {"None"}},
            {"entries": "entries|layout"},
        ),
    )
    values, vectors = H.eigh()
    yield (
        "LowRank",
        Row(
            hesse.LowRank,
            {"values": values, "vectors": vectors, "diagonal": 1.0, "layout": layout},
            {"diagonal": {"huge", "negative", "half"}, "layout": {"None"}},
            {"diagonal": "diagonal|layout", "vectors": "vectors|values"},
        ),
    )
    low_rank = hesse.LowRank(values.abs(), vectors, 1.0, layout)
    yield "LowRank.inverse", Row(low_rank.inverse, {"damping": 1.0}, {"damping": {"half", "huge"}})
    yield (
        "solve",
        Row(
            hesse.solve,
            {
                "what": cost,
                "b": cost.theta,
                "damping": 10.0,
                "curvature": None,
                "method": None,
                "preconditioner": None,
                "tolerance": 1e-2,
                "maxiter": None,
                "progress": False,
            },
            solving := {
                "damping": {"half", "huge"},
                "curvature": {"None"},
                "method": {"None"},
                "preconditioner": {"None"},
                "tolerance": {"half", "huge"},
                "maxiter": {"None", "huge"},
                "progress": OPTION,
            },
            matrix,
        ),
    )
    yield (
        "inverse",
        Row(
            hesse.inverse,
            {
                "what": cost,
                "damping": 10.0,
                "curvature": None,
                "method": None,
                "preconditioner": None,
                "tolerance": 1e-2,
                "maxiter": None,
            },
            solving,
            matrix,
        ),
    )
    yield (
        "covariance",
        Row(
            hesse.covariance,
            {"what": cost, "damping": 10.0, "curvature": None},
            {"damping": {"half", "huge"}, "curvature": {"None"}},
            matrix,
        ),
    )
    bowl = hesse.Cost.from_function(lambda p: (p["u"] ** 2).sum(), {"u": torch.zeros(2)})
    yield (
        "standard_errors",
        Row(
            hesse.standard_errors,
            {"cost": bowl, "covariance": "hessian", "level": 0.95},
            {"level": {"half"}},
        ),
    )
    yield "QuadraticModel()", Row(q.__call__, step, {})
    yield "QuadraticModel.error", Row(q.error, step, {})
    yield "QuadraticModel.compare", Row(q.compare, step, {})
    yield "QuadraticModel.change", Row(q.change, step, {})
    yield "QuadraticModel.true", Row(q.true, step, {})
    yield "QuadraticModel.product", Row(q.product, {"V": step["s"]}, {})
    yield (
        "QuadraticModel.trust",
        Row(
            q.trust,
            {"direction": None, "tolerance": 0.1},
            {"direction": {"None"}, "tolerance": {"half", "huge"}},
            {"direction": "direction|layout"},
        ),
    )
    yield "QuadraticModel.newton", Row(q.newton, {"damping": 10.0}, {"damping": {"half", "huge"}})
    yield (
        "QuadraticModel.saddle_free",
        Row(q.saddle_free, {"damping": 1.0}, {"damping": {"half", "huge"}}),
    )
    yield (
        "QuadraticModel.levenberg_marquardt",
        Row(q.levenberg_marquardt, {"damping": 1.0}, {"damping": {"half", "huge"}}),
    )
    yield (
        "QuadraticModel.trust_region",
        Row(q.trust_region, {"radius": 1.0}, {"radius": {"half", "huge"}}),
    )
    yield "QuadraticModel.cubic", Row(q.cubic, {"M": 1.0}, {"M": {"half", "huge"}})
    saddle = hesse.quadratic(hesse.Cost.from_function(lambda p: p["u"][0] ** 2 - p["u"][1] ** 2, u))
    yield (
        "QuadraticModel.negative_curvature",
        Row(saddle.negative_curvature, {"length": 1.0}, {"length": {"half", "huge"}}),
    )
    yield (
        "Slice",
        Row(
            hesse.Slice.from_model,
            {"q": q, "direction": None, "span": 1.0, "tolerance": 0.1, "points": 5},
            {
                "direction": {"None"},
                "span": {"None", "half", "huge"},
                "tolerance": {"half", "huge"},
            },
            {"direction": "direction|layout"},
        ),
    )
    yield (
        "Plane",
        Row(
            hesse.Plane.from_model,
            {"q": q, "directions": None, "span": 1.0, "tolerance": 0.1, "points": 5},
            {
                "directions": {"None"},
                "span": {"None", "half", "huge"},
                "tolerance": {"half", "huge"},
            },
        ),
    )
    pairs = hesse.eigenpairs(H, 2)
    yield "Eigenpairs.vector", Row(pairs.vector, {"place": 0}, {"place": {"negative"}})
    masses = {"low": -1.0, "high": 1.0}
    numbers = {"half", "huge", "negative", "inf"}
    yield "Density.mass", Row(hesse.density(H).mass, masses, {"low": numbers, "high": numbers})
    widths = {"widths": "2-1", "loss": "half_sse"}
    yield "Network", Row(hesse.Network, widths, {})
    formula = hesse.derive("sum((y - X @ w)**2)", "w").block("w", "w")
    yield (
        "Formula.python",
        Row(formula.python, {"name": "f", "backend": "numpy"}, {"name": {"None", "a name"}}),
    )
    names = {"first": "0.bias", "second": "0.weight"}
    yield "Plan.strategy", Row(hesse.plan(cost).strategy, names, {}, dict.fromkeys(names, "block"))
    yield "Spectrum", Row(hesse.Spectrum.from_hessian, {"hessian": H}, {})
    yield "HeatMap", Row(hesse.HeatMap.from_hessian, {"hessian": H}, {})
    yield "NormMap", Row(hesse.NormMap.from_hessian, {"hessian": H, "by": "layer"}, {})
    yield "LayerSpectra", Row(hesse.LayerSpectra.from_hessian, {"hessian": H}, {})
    images = {"name": "0.weight", "image": (1, 2)}
    pairs = hesse.eigenpairs(H, k=2)
    yield (
        "Eigenvectors",
        Row(hesse.Eigenvectors.from_eigenpairs, {"pairs": pairs, **images}, {"name": {"None"}}),
    )
    yield (
        "Eigenpairs.plot",
        Row(pairs.plot, {"ax": ax, **images}, {"ax": {"None"}, "name": {"None"}}),
    )
    trust = q.trust()
    yield "ErrorCurve", Row(hesse.ErrorCurve.from_trust, {"trust": trust}, {})
    yield from spectra(cost, memory)
    displays = {
        "Slice": hesse.Slice.from_model(q, points=5),
        "Plane": hesse.Plane.from_model(q, points=5),
        "Spectrum": hesse.Spectrum.from_hessian(H),
        "HeatMap": hesse.HeatMap.from_hessian(H),
        "ErrorCurve": hesse.ErrorCurve.from_trust(trust),
        "NormMap": hesse.NormMap.from_hessian(H),
        "LayerSpectra": hesse.LayerSpectra.from_hessian(H),
        "BlockHessian": H,
        "Density": hesse.density(H),
        "Layers": hesse.layers(cost),
    }
    for name, display in displays.items():
        yield f"{name}.plot", Row(display.plot, {"ax": ax}, {"ax": {"None"}})
    by_block = {"ax": ax, "by": "layer", "cmap": "PuOr"}
    yield "BlockHessian.plot by", Row(H.plot, by_block, {"ax": {"None"}, "cmap": {"None"}})
    turned = displays["Plane"].interactive
    yield "Plane.interactive", Row(turned, {"path": None}, {"path": {"None"}})
    # The last: a Hessian was saved by the name, which no store replaces.
    yield "hessian", Row(hesse.hessian, {"cost": cost, "out": None}, {"out": {"None"}})


def spectra(cost: hesse.Cost, memory: set[str]) -> Iterator[tuple[str, Row]]:
    """What is asked of a cost or a matrix by its products."""
    numbers, shared = {"half", "huge"}, {"memory": memory, "progress": OPTION, "seed": set()}
    ask: dict[str, Any] = {
        **{"what": cost, "curvature": "hessian", "by": None},
        **{"seed": 0, "memory": 10**9, "progress": False, "method": "auto"},
    }
    common = {**ask, "products": 100}
    fine = {**shared, "products": COUNT, "by": {"None"}}
    goal: dict[str, Any] = {"error": None, "relative_error": 0.5}
    goals = {"error": {"None"}, "relative_error": {*numbers, "None"}}
    said = {"what": "what|matrix", "error": "error"}
    yield (
        "eigenpairs",
        Row(
            hesse.eigenpairs,
            {
                **{name: given for name, given in common.items() if name != "method"},
                **{"k": 2, "which": "largest", "tolerance": 1e-6, "start": None},
            },
            {**fine, "tolerance": numbers, "start": {"None"}, "products": {*COUNT, "None"}},
            said,
        ),
    )
    for name in ("trace", "squared_norm"):
        yield name, Row(getattr(hesse, name), {**common, **goal}, {**fine, **goals}, said)
    yield (
        "estimated_diagonal",
        Row(
            hesse.estimated_diagonal,
            {
                name: each
                for name, each in {**common, **goal}.items()
                if name not in ("by", "memory")
            },
            {**fine, **goals},
            said,
        ),
    )
    for name in ("logdet", "effective_dimension"):
        yield (
            name,
            Row(
                getattr(hesse, name),
                {**common, **goal, "damping": 10.0},
                {**fine, **goals, "damping": numbers},
                said,
            ),
        )
    yield (
        "condition_number",
        Row(
            hesse.condition_number,
            {**common, "damping": 10.0},
            {**fine, "damping": numbers},
            said,
        ),
    )
    yield (
        "density",
        Row(
            hesse.density,
            {**ask, "probes": 10, "steps": 4, "width": None},
            {**fine, "probes": COUNT, "steps": COUNT, "width": {*numbers, "None"}},
            said,
        ),
    )
    yield (
        "layers",
        Row(
            hesse.layers,
            {
                **{name: each for name, each in common.items() if name not in ("by", "method")},
                "relative_error": 0.5,
            },
            {**fine, "relative_error": numbers},
            said,
        ),
    )


# Records that functions of hesse make, formulas, which have a table of their own, and the errors.
OTHERS = {
    *("Certificate", "Convexity", "Derivation", "DerivedHessian", "Estimate", "EstimatedDiagonal"),
    *("HesseError", "PerSample", "Report", "SampledFisher", "alone"),
    *("Solution", "StandardErrors", "StationaryPoint", "Status", "Step", "Trust", "derive"),
}


def failures() -> Iterator[str]:
    """What was taken though it should not, or refused though it is fine, or refused badly."""
    for name, row in rows():
        for argument, fits in row.arguments.items():
            for value, given in (VALUES | unfit(fits)).items():
                if (argument, value) == ("callback", "a class"):
                    continue  # it can be called, and what the caller's own code raises is theirs
                outcome = _outcome(row, argument, given)
                fine = value in row.fine.get(argument, set())
                wrong = outcome or ("taken" if outcome is None else "refused")
                if outcome or (outcome is None) != fine:
                    yield f"{name}({argument}={value}): {wrong}"


def _outcome(row: Row, argument: str, given: Any) -> str | None:
    """None where the call works; else what is wrong with its error, empty where nothing is."""
    try:
        row.call(**{**row.arguments, argument: given})
    except hesse.HesseError as error:
        text = str(error)
        if not isinstance(error, KINDS):
            return f"no built-in kind: {text}"
        return (
            ""
            if re.search(row.said.get(argument, argument), text)
            else f"does not name it: {text[:200]}"
        )
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def main() -> int:
    """The command: the failures, and whether there were any."""
    matplotlib.use("agg")
    # Bars that are asked for are shown, and a file may be saved.
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        failed = list(failures())
    print(*failed, sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
