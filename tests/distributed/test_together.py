"""A pair of processes does everything in one go: to start it takes seconds."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_module

import hesse
from distributed.ranks import run
from hesse.distributed.group import gathered, is_first, of_first, processes, together


def test_a_pair_gives_what_one_gives_and_fails_together(tmp_path: Path) -> None:
    (status, printed), (killed, _) = run(2, "quick", tmp_path)
    assert status == 0, printed
    assert printed.split("\n")[-2] == "22 answers 6 failures 1 kills"
    assert killed == -9


def test_sharded_parameters_are_refused() -> None:
    with TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            model = distribute_module(nn.Linear(2, 1), init_device_mesh("cpu", (1,)))
            with pytest.raises(
                hesse.HesseError, match=r"sharded over ranks \(DTensor\).*gradient again"
            ):
                hesse.Cost(model, "half_sse", (torch.ones(3, 2), torch.ones(3, 1)))
        finally:
            dist.destroy_process_group()


def test_alone_everything_is_as_it_is_given() -> None:
    assert (together("a", lambda: 1), gathered("b", lambda: 2), of_first("c", lambda: 3)) == (
        1,
        [2],
        3,
    )
    assert processes() == 1 and is_first()
