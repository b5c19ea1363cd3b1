"""A report about a cost: everything that hesse has to say of it, on one page."""

from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike, fspath

from hesse.cost import Cost
from hesse.display import Display, Displayed, facts
from hesse.errors import (
    HesseError,
    HesseImportError,
    HesseValueError,
    in_a_line,
    printable,
    require_instance,
    require_progress,
)
from hesse.process.files import require_path, require_place, write_text
from hesse.process.memory import require_memory
from hesse.process.progress import Progress
from hesse.reports.findings import Findings
from hesse.reports.page import page
from hesse.reports.parts import Part, Section
from hesse.reports.sections import SECTIONS


@dataclass(frozen=True, repr=False)
class Report(Displayed):
    """A page that was written. ``print(report)`` says what is on it.

    Attributes:
        path: the file.
        refused: by the titles of its sections, why one is not shown; empty where it is.
    """

    path: str
    refused: dict[str, str]

    def __str__(self) -> str:
        kept = [title for title, why in self.refused.items() if not why]
        lines = [f"{self.path}: {', '.join(kept)}"]
        lines += [f"not shown: {title}: {why}" for title, why in self.refused.items() if why]
        return "\n".join(map(printable, lines))

    def _display(self) -> Display:
        kept = [title for title, why in self.refused.items() if not why]
        refused = [f"{title}: {why}" for title, why in self.refused.items() if why]
        return Display(
            "Report",
            self.path,
            facts(shown=", ".join(kept), not_shown="\n".join(refused)),
            next=("print(report)",),
        )


def report(
    cost: Cost,
    path: str | PathLike[str],
    *,
    memory: int | None = None,
    progress: bool | None = None,
) -> Report:
    """Write one self-contained page about a cost: the cost, the plan, H with its certificate, its
    blocks and layers, its spectrum, extreme directions, the quadratic model with its radius of
    trust, and the derivation.

    Where P is too large for H to be built, products with it take its place, and the page says so. A
    part that is refused is said on the page, and the others are there. The file is written whole or
    not at all. It needs ``pip install 'hesse[html,plot]'``.

    Args:
        cost: the cost.
        path: a ``.html`` file.
        memory: bytes to work in, as for `hesse.hessian`.
        progress: show how far it is; by default where it takes long and a terminal is watching.

    Raises:
        HesseTypeError: no cost, or an argument of another type.
        HesseValueError: another ending.
        HesseImportError: jinja2 or matplotlib is not installed.
        HesseFileError: the file cannot be written.

    Examples:
        >>> import torch, hesse
        >>> data = torch.ones(4, 2), torch.ones(4, 1)
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", data)
        >>> print(hesse.report(cost, "report.html"))  # doctest: +SKIP
        report.html: The cost, The plan, ..., The derivation
        >>> hesse.report(cost, "report.pdf")
        Traceback (most recent call last):
        hesse.errors.HesseValueError: path: expected a path that ends with .html, got 'report.pdf'
    """
    require_instance(cost, Cost, "cost", "hesse.Cost(model, loss, data)")
    require_progress(progress)
    if memory is not None:
        require_memory(memory)
    if not require_path(path, "path").endswith(".html"):
        raise HesseValueError(f"path: expected a path that ends with .html, got {fspath(path)!r}")
    require_place(path, "path")
    for package, extra in (("jinja2", "html"), ("matplotlib", "plot")):
        if find_spec(package) is None:
            raise HesseImportError(
                f"a report needs {package}; install it with: pip install 'hesse[{extra}]'"
            )
    return written(Findings(cost, memory, progress), path)


def written(found: Findings, path: str | PathLike[str]) -> Report:
    """The page about what was found, or is to be found."""
    sections = []
    with Progress("report", len(SECTIONS), found.progress) as bar:
        for title, make in SECTIONS.items():
            parts: list[Part] = []
            refused = ""
            # A part that fails loses no other: what is refused is said, and so is a fault.
            try:
                parts = make(found)
            except HesseError as error:
                refused = str(error)
            except Exception as error:
                refused = in_a_line(error)
            sections.append(Section(title, tuple(parts), refused))
            bar.advance(1)
    write_text(path, "path", page(f"The second derivatives of {found.cost.name}", sections))
    return Report(fspath(path), {section.title: section.refused for section in sections})
