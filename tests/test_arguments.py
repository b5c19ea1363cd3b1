"""Every argument of every public function, through what it should not be: see `arguments`."""

import subprocess
import sys
from pathlib import Path

import hesse
from arguments import OTHERS, rows


def test_every_argument_is_checked() -> None:
    # In a process of its own: in this one the checks of annotations would come first.
    script = Path(__file__).with_name("arguments.py")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_public_name_is_tried() -> None:
    tried = {name.split(".")[0].split(" ")[0].split("[")[0].split("(")[0] for name, _ in rows()}
    assert tried | OTHERS == set(hesse.__all__) and not tried & OTHERS
