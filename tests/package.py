"""The package as others get it: a wheel and an sdist, built, installed and tried.

`make package` runs `python tests/package.py`, for every extra; a test does the least of it.
One environment has all that hesse needs and no extra. The others see it, so that PyTorch is
installed once, and have one extra each.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
# What a release is given its address in, and one.
VARIABLE, PLACE = "HESSE_REPOSITORY", "https://example.org/somebody/hesse"
# What a user does first. Without an extra, what it brings says so, and nothing else is missing.
TRY = """
import importlib.util, sys, tempfile, typing
# What reads shapes in the tests is for development, and need not be there.
sys.modules["jaxtyping"] = sys.modules["beartype"] = None
import torch, hesse
assert typing.get_type_hints(hesse.LinearOperator.dense)["return"]
assert hesse.__file__.startswith(sys.prefix), hesse.__file__
cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", (torch.ones(3, 2), torch.ones(3, 1)))
H, folder = hesse.hessian(cost), tempfile.TemporaryDirectory()
assert H["weight", "weight"].flatten().tolist() == [3.0] * 4 and H.certificate is not None
d = hesse.derive("sum((y - X @ w)**2)", "w")
assert d.block("w", "w").matrix() == "2 XᵀX", d.block("w", "w").matrix()
def check(package, extra, call):
    try:
        call()
        refused = ""
    except hesse.HesseError as error:
        refused = str(error)
    has = all(importlib.util.find_spec(name) for name in package.split())
    assert bool(refused) != has and (has or f"hesse[{extra}]" in refused), (package, has, refused)
    return has
web = ()
if importlib.util.find_spec("uvicorn"):
    from hesse.web.server import application
    application()
    web = ("web",)
print(hesse.__version__, *web,
      *(("plot",) if check("matplotlib", "plot", H.plot) else ()),
      *(("html",) if check("jinja2", "html", d.html) else ()),
      *(("disk",) if check("zarr", "disk", lambda: H.save(folder.name + "/h.zarr")) else ()),
      *(("frames",) if check("pandas xarray", "frames", H.to_pandas) else ()))
"""
# With the script, each with a part of what it prints: its status says whether the extra is there.
COMMANDS = {
    "--version": "",
    'derive "sum(x**2)" --wrt x --block x,x': "2",
}


def build(folder: Path) -> tuple[Path, Path]:
    """A wheel and an sdist, and the wheel of that sdist, which holds the same: its addresses too,
    though whoever builds it has been told none."""

    def built(what: str, source: Path, target: str, place: str = "") -> Path:
        (folder / target).mkdir(exist_ok=True)
        code = f"import hatchling.build as b; print(b.build_{what}({str(folder / target)!r}))"
        ran = run(sys.executable, "-c", code, cwd=source, place=place)
        return folder / target / ran.splitlines()[-1]

    wheel, sdist = (built(what, ROOT, "dist", PLACE) for what in ("wheel", "sdist"))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    again = built("wheel", next((folder / "source").iterdir()), "again")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        assert all(one.read(name) == other.read(name) for name in one.namelist())
        assert "hesse/py.typed" in one.namelist()
        check_metadata(one)
    return wheel, sdist


def check_metadata(wheel: zipfile.ZipFile) -> None:
    """What a package index reads: valid by its rules, a page that it can show, a licence."""
    folder = next(Path(name).parent for name in wheel.namelist() if name.endswith("/METADATA"))
    told = Metadata.from_email(wheel.read(f"{folder}/METADATA"), validate=True)
    assert told.license_expression == "MIT" and told.license_files == ["LICENSE"]
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert told.summary and told.requires_python and told.keywords and told.classifiers
    assert told.description_content_type == "text/markdown" and told.description
    # An index shows no picture, and follows no link, by a path in the repository.
    assert told.project_urls and told.project_urls["Repository"] == PLACE
    assert all(one.startswith(PLACE) for one in told.project_urls.values())
    links = re.findall(r"\]\(([^)]+)\)", told.description)
    assert links and all(one.startswith("https://") for one in links), links
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", told.description)
    assert pictures and all(f"{PLACE}/raw/v{told.version}/docs/" in one for one in pictures)


def environment(folder: Path, beside: Path | None = None) -> Path:
    """The Python of a new environment, which sees the packages of another one."""
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if beside is not None:
        packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own, others = (run(str(path), "-c", packages).strip() for path in (python, beside))
        Path(own, "beside.pth").write_text(f"{others}\n")
    return python


def install(python: Path, *what: str) -> None:
    """By this environment's pip."""
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *what)


def check(python: Path) -> str:
    """What a user does first, in Python and by the script; the extras that it has."""
    has = run(str(python), "-c", TRY).strip()
    script = python.with_name("hesse")
    code = "import importlib.util as u; print(all(map(u.find_spec, ('cyclopts', 'rich'))))"
    cli = run(str(python), "-c", code).strip() == "True"
    for command, text in COMMANDS.items():
        ran = subprocess.run(
            f"{script} {command}", shell=True, env=_variables(), capture_output=True, text=True
        )
        said = ran.stdout if cli else ran.stderr
        expected = text if cli else "pip install 'hesse[cli]'"
        assert (ran.returncode == 0) == cli and expected in said, (command, ran)
    return f"{has} cli" if cli else has


def run(*command: str, cwd: Path | None = None, place: str = "") -> str:
    """What a command prints, which has to end well; nothing of this checkout is on its path, and it
    is told of no address but the one given."""
    variables = {**_variables(), VARIABLE: place}
    ran = subprocess.run(
        command, cwd=cwd or tempfile.gettempdir(), env=variables, capture_output=True, text=True
    )
    assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
    return ran.stdout


def _variables() -> dict[str, str]:
    """Those of this process, without the path of a checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def main() -> None:
    """The command: without extras, from the sdist, and with each extra that users have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(described["optional-dependencies"]) - {"dev", "docs", "models"}
    pinned = ("--constraint", str(ROOT / "constraints.txt"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = build(folder)
        base = environment(folder / "none")
        start = time.perf_counter()
        install(base, *pinned, str(wheel))
        print(f"no extra: {check(base)} ({time.perf_counter() - start:.0f} s)")
        # The others see what it needs, not itself.
        run(sys.executable, "-m", "pip", "--python", str(base), "uninstall", "-qy", "hesse")
        for number, what in enumerate(
            [str(sdist), *(f"{wheel}[{extra}]" for extra in sorted(extras))]
        ):
            start = time.perf_counter()
            python = environment(folder / str(number), base)
            install(python, *pinned, what)
            print(f"{Path(what).name}: {check(python)} ({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
