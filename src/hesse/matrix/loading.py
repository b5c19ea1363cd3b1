"""A Hessian out of a file."""

import os

from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.storage import key_of, read


def load(path: str | os.PathLike[str]) -> BlockHessian:
    """Read a Hessian that `BlockHessian.save` wrote; onto the CPU.

    Its checksums, its symmetry and that its entries are finite, if they were, are checked.

    Raises:
        HesseTypeError, HesseValueError: the path is none.
        HesseFileError: there is no such file, it is cut short or damaged, or it is not a Hessian of
            hesse.

    Example:
        >>> import tempfile, torch, hesse
        >>> from hesse.matrix.block_hessian import BlockHessian
        >>> H = BlockHessian(hesse.Layout(("w",), ((2,),)), matrix=torch.eye(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     H.save(f"{folder}/h.safetensors")
        ...     load(f"{folder}/h.safetensors")["w", "w"]
        tensor([[1., 0.],
                [0., 1.]])
    """
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
