"""What hesse wrote, out of a file or of a store."""

import os
from typing import Any

import torch

from hesse.errors import HesseFileError
from hesse.kronecker.approximation import KFAC
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.storage import key_of, read
from hesse.process.files import read_texts, require_path
from hesse.store.archive import Archive
from hesse.store.place import is_store
from hesse.store.stored import stored_hessian


def load(path: str | os.PathLike[str]) -> Any:
    """Read a Hessian that `BlockHessian.save` wrote, or that ``hesse.hessian(cost, out=...)``
    computed into a store, or what `KFAC.save` wrote; onto the CPU.

    Of a file its checksums, its symmetry and that its entries are finite, if they were, are
    checked. Of a store nothing but the description is read: blocks, slices and products read the
    tiles that they need, each with its checksum.

    Returns:
        A `BlockHessian`, or a `KFAC`.

    Raises:
        HesseTypeError, HesseValueError: the path is none.
        HesseFileError: there is no such file, it is cut short or damaged, it is none that hesse
            wrote, or a store in which tiles are missing.

    Examples:
        >>> import tempfile, torch, hesse
        >>> from hesse.matrix.block_hessian import BlockHessian
        >>> H = BlockHessian(hesse.Layout(("w",), ((2,),)), matrix=torch.eye(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     H.save(f"{folder}/h.safetensors")
        ...     load(f"{folder}/h.safetensors")["w", "w"]
        tensor([[1., 0.],
                [0., 1.]])
    """
    if is_store(require_path(path, "load")):
        return _from_store(path)
    if "kfac" in read_texts(path, "load"):
        return KFAC.load(path)
    held = read(path)
    # A file holds the whole matrix, or some blocks.
    if held.indices is None:
        return BlockHessian(
            held.layout,
            matrix=held.tensors["matrix"],
            provenance=held.provenance,
            certificate=held.certificate,
        )
    names = held.layout.names
    blocks = {(names[i], names[j]): held.tensors[key_of(i, j)] for i, j in held.indices}
    return BlockHessian(
        held.layout, blocks=blocks, provenance=held.provenance, certificate=held.certificate
    )


def _from_store(path: str | os.PathLike[str]) -> BlockHessian:
    archive = Archive(path, "load")
    missing = archive.missing
    if missing:
        raise HesseFileError(
            f"load: {os.fspath(path)!r} is not finished: {len(missing)} of {archive.tiling.count}"
            " tiles are missing; hesse.hessian(cost, out=...) with the same cost goes on"
        )
    return stored_hessian(archive, torch.device("cpu"))
