"""A Hessian as a table of pandas or an array of xarray, labelled by parameter and index."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse.errors import HesseImportError
from hesse.layout import Layout

if TYPE_CHECKING:
    import pandas
    import xarray

    from hesse.matrix.by_name import BlocksByName
    from hesse.plot.layers import Layer


def data_frame(hessian: "BlocksByName") -> "pandas.DataFrame":
    """See `BlockHessian.to_pandas`."""
    pandas = _imported("pandas", "to_pandas")
    axis = pandas.MultiIndex.from_arrays(labels(hessian.layout), names=["parameter", "index"])
    return pandas.DataFrame(np.asarray(hessian), index=axis, columns=axis)


def data_array(hessian: "BlocksByName") -> "xarray.DataArray":
    """See `BlockHessian.to_xarray`."""
    xarray = _imported("xarray", "to_xarray")
    names, indices = labels(hessian.layout)
    coordinates = {
        f"{axis}_{level}": (axis, values)
        for axis in ("row", "column")
        for level, values in (("parameter", names), ("index", indices))
    }
    return xarray.DataArray(
        np.asarray(hessian), dims=("row", "column"), coords=coordinates, name="hessian"
    )


def estimates_frame(layout: Layout, columns: Mapping[str, np.ndarray]) -> "pandas.DataFrame":
    """See `StandardErrors.to_pandas`."""
    pandas = _imported("pandas", "to_pandas", "e['name']")
    index = pandas.MultiIndex.from_arrays(labels(layout), names=["parameter", "index"])
    return pandas.DataFrame(dict(columns), index=index)


def layers_frame(rows: "Iterable[Layer]") -> "pandas.DataFrame":
    """See `Layers.to_pandas`."""
    pandas = _imported("pandas", "to_pandas", "layers['name']")
    table = {
        row.name: {
            "parameters": row.parameters,
            "trace": row.trace.value,
            "std. error of trace": row.trace.error,
            "largest eigenvalue": row.largest.value,
            "its residual": row.largest.error,
        }
        for row in rows
    }
    return pandas.DataFrame.from_dict(table, orient="index").rename_axis("layer")


def labels(layout: Layout) -> tuple[list[str], list[str]]:
    """Of each entry of the flat vector its parameter, and its index there as text; empty for a
    parameter without axes.

    Examples:
        >>> labels(Layout(("w", "s"), ((1, 2), ())))
        (['w', 'w', 's'], ['0, 0', '0, 1', ''])
    """
    names = [name for name in layout.names for _ in range(layout.sizes[name])]
    indices = [
        ", ".join(map(str, index))
        for shape in layout.shapes
        for index in product(*(range(length) for length in shape))
    ]
    return names, indices


def _imported(library: str, method: str, instead: str = "np.asarray(H)") -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise HesseImportError(
            f'{method}: {library} is not installed; pip install "hesse[frames]", or {instead}'
        ) from error
