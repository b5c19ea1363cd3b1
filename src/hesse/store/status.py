"""What is in a store, what is left to be computed, and how long that takes."""

import os
from dataclasses import dataclass

from hesse.display import Display, Displayed, facts
from hesse.errors import printable, readable_bytes
from hesse.process.price import duration
from hesse.store.archive import Archive


@dataclass(frozen=True, repr=False)
class Status(Displayed):
    """How far a Hessian in a store is. ``print(status)`` says it.

    Attributes:
        path: the store.
        cost: what it is of, in words.
        tiles: how many tiles it has when it is finished.
        done: how many are there.
        bytes: what all of them take.
        bytes_done: what those that are there take.
        seconds: what these took to compute.
        certified: what the whole was held against; empty where it was not yet.
    """

    path: str
    cost: str
    tiles: int
    done: int
    bytes: int
    bytes_done: int
    seconds: float
    certified: str

    @property
    def seconds_left(self) -> float | None:
        """About how long the rest takes, at the rate so far; ``None`` where there is none yet."""
        if not self.bytes_done:
            return None
        return self.seconds * (self.bytes - self.bytes_done) / self.bytes_done

    @property
    def is_finished(self) -> bool:
        """Whether every tile is there."""
        return self.done == self.tiles

    def _display(self) -> Display:
        share = self.bytes_done / max(1, self.bytes)
        left = self.seconds_left
        after = "hesse.load(path)" if self.is_finished else "hesse.hessian(cost, out=path)"
        return Display(
            "Status",
            f"{self.path}, the Hessian of {self.cost}",
            facts(
                tiles=f"{self.done:,} of {self.tiles:,}",
                bytes=f"{readable_bytes(self.bytes_done)} of {readable_bytes(self.bytes)}"
                f" ({share:.0%})",
                computed_in=duration(self.seconds),
                left=None if self.is_finished or left is None else f"about {duration(left)}",
                certificate=(self.certified or "nothing yet") if self.is_finished else None,
            ),
            next=(after,),
        )

    def __str__(self) -> str:
        share = self.bytes_done / max(1, self.bytes)
        lines = [
            f"{self.path}: the Hessian of {self.cost}",
            f"there   {self.done} of {self.tiles} tiles, {readable_bytes(self.bytes_done)} of"
            f" {readable_bytes(self.bytes)} ({share:.0%}), computed in {duration(self.seconds)}",
        ]
        if self.is_finished:
            lines.append(f"held against: {self.certified or 'nothing yet'}")
        elif self.seconds_left is not None:
            lines.append(f"left    about {duration(self.seconds_left)} at that rate")
        return "\n".join(map(printable, lines))


def status(path: str | os.PathLike[str]) -> Status:
    """What is in a store that ``hesse.hessian(cost, out=path)`` writes, while it does or after it
    was interrupted. Sizes of tiles are looked at, not their checksums.

    Raises:
        HesseTypeError, HesseValueError: the path is none.
        HesseFileError: it is no such store.

    Examples:
        >>> import tempfile, torch, hesse
        >>> data = torch.ones(4, 2), torch.ones(4, 1)
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1), "half_sse", data)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     H = hesse.hessian(cost, out=f"{folder}/h.zarr")
        ...     status(f"{folder}/h.zarr").is_finished
        True
    """
    archive = Archive(path, "status")
    held, missing = archive.description, archive.missing
    certificate = held["certificate"]
    return Status(
        path=str(archive.path),
        cost=held["provenance"].get("cost", "unknown"),
        tiles=archive.tiling.count,
        done=archive.tiling.count - len(missing),
        bytes=archive.bytes,
        bytes_done=archive.bytes - archive.bytes_of(missing),
        seconds=held.get("seconds", 0.0),
        certified="" if certificate is None else certificate["compared"],
    )
