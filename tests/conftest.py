"""For the whole run: every annotation in hesse is checked as it is called, shapes included, and workers share the cores."""

import os

import jaxtyping
import torch

# Before anything imports hesse. The tower lets an int stand for a float, as Python's typing does.
jaxtyping.install_import_hook("hesse", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
