"""Computing a Hessian into a store: what is not there yet, panel by panel."""

import os
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from hesse.cost import Cost
from hesse.distributed.group import (
    gathered,
    is_first,
    joined,
    of_first,
    processes,
    together,
)
from hesse.errors import (
    HesseDistributedError,
    HesseFileError,
    readable_bytes,
)
from hesse.exact.acceptance import accepted
from hesse.exact.execution import provenance_of
from hesse.exact.fallback import (
    Failure,
    Strategy,
    error_of,
    failures,
    fall_back,
)
from hesse.exact.panel import Panel, operations_of, tiles_of
from hesse.exact.panel_sums import PanelSums, Sums
from hesse.exact.plan import NamePair, Plan
from hesse.exact.planning import TiledWork, check_memory
from hesse.matrix.block_hessian import BlockHessian
from hesse.process.circumstances import is_of_strategy
from hesse.process.files import free_bytes
from hesse.process.progress import Progress
from hesse.store.archive import (
    Archive,
    DamagedTileError,
    written_alone,
)
from hesse.store.fingerprint import difference, fingerprint
from hesse.store.place import is_store, require_store_place
from hesse.store.stored import stored_hessian
from hesse.store.tiling import Tile, Tiling

_ARGUMENT = "out"
# Threads that look tiles over.
_READERS = 2


def hessian_on_disk(
    cost: Cost,
    wanted: tuple[NamePair, ...],
    out: Any,
    memory: int | None,
    certify: bool,
    progress: bool | None,
) -> BlockHessian:
    """What `hessian` does with ``out=``; its arguments are checked."""
    path = require_store_place(out, _ARGUMENT)
    if memory is not None:
        check_memory(memory)
    begun = None
    if not of_first("whether there is a store", lambda: os.path.lexists(path)):
        begun = _begin(cost, wanted, path, memory)
    with ExitStack() as stack:
        of_first("a store", lambda: _own(path, stack))
        archive = _opened(path)
        _require_same(archive, cost, wanted, begun or fingerprint(cost))
        # Without a word on memory it goes on as it began, and ends in the same bytes.
        budget = archive.description["memory"] if memory is None else memory
        work = TiledWork(cost, wanted, budget, archive.tiling)
        for name, (strategy, reason) in archive.description["failures"].items():
            failures(cost)[name] = Failure(Strategy(strategy), reason)
        if archive.description["certificate"] is not None:
            of_first("tiles that are there", lambda: _look_over(archive))
        while True:
            planned = work.plan
            archive = _opened(path)
            if failed := _fill(cost, work, planned, archive, progress):
                fall_back(cost, failed, planned.by_columns, "Hessian")
                of_first("another way", lambda failed=failed: _begin_again(cost, path, failed))
                continue
            archive = _opened(path)
            H = stored_hessian(archive, cost.device)
            if H.certificate is not None:
                return H
            judged = _judged(cost, planned, archive, H, certify)
            if judged is None:
                continue
            H, wrong = judged
            if not wrong:
                return _kept(archive, H)
            of_first("another way", lambda wrong=wrong: _begin_again(cost, path, wrong))


def _own(path: Path, stack: ExitStack) -> None:
    """Nobody else writes into the store meanwhile, and what was written into it so far is in one
    place."""
    stack.enter_context(written_alone(Archive(path, _ARGUMENT), _ARGUMENT))
    # It may have been written to until the lock was there.
    Archive(path, _ARGUMENT).settle()


def _opened(path: Path) -> Archive:
    """The store with what all processes have written, while none writes."""
    of_first("a store", lambda: Archive(path, _ARGUMENT).settle())
    group = joined()
    return together("a store", lambda: Archive(path, _ARGUMENT, group.rank if group else 0))


def _judged(
    cost: Cost, planned: Plan, archive: Archive, H: BlockHessian, certify: bool
) -> tuple[BlockHessian, Collection[str]] | None:
    """What `accepted` says; ``None`` where a tile is damaged, which is to be made again: a process
    may see that, and the others that it failed."""
    damaged, failure = list[Tile](), None
    try:
        judged = accepted(cost, planned, H, archive.description["seconds"], certify)
    except DamagedTileError as error:
        judged, damaged = None, [error.tile]
    except HesseDistributedError as error:
        judged, failure = None, error
    tiles = list(chain(*gathered("damaged tiles", lambda: damaged)))
    if tiles:
        of_first("damaged tiles", lambda: archive.forget(tiles))
        return None
    if failure is not None:
        raise failure
    return judged


def _look_over(archive: Archive) -> None:
    """Tiles of a finished store that are damaged are to be made again: nothing else reads them in
    this call."""
    tiles = [tile for pair in archive.tiling.pairs for tile in archive.tiling.of_block(pair)]

    def is_damaged(tile: Tile) -> bool:
        try:
            archive.read(tile)
        except DamagedTileError:
            return True
        return False

    with ThreadPoolExecutor(_READERS) as pool:
        damaged = [
            tile for tile, bad in zip(tiles, pool.map(is_damaged, tiles), strict=True) if bad
        ]
    if damaged:
        archive.forget(damaged)
        archive.update(certificate=None)


def _begin(
    cost: Cost, wanted: tuple[NamePair, ...], path: Path, memory: int | None
) -> dict[str, Any]:
    """Make the store; the fingerprint of the cost that it is of."""
    of_first("space", lambda: _require_space(path, TiledWork(cost, wanted, memory).bytes))
    mine = fingerprint(cost)

    def make() -> None:
        work = TiledWork(cost, wanted, memory)
        planned = work.plan_at(path)
        description = {
            "memory": work.memory,
            "fingerprint": mine,
            "plan": {"seconds": planned.seconds, "text": str(planned)},
            "failures": {},
            "provenance": provenance_of(cost, planned, 0.0),
            "seconds": 0.0,
            "certificate": None,
        }
        try:
            with Archive.making(path, _ARGUMENT, work.tiling, cost.dtype, description):
                pass  # its tiles are kept one by one
        except HesseFileError:
            # Another process may have begun at the same time, and been faster.
            if not is_store(path):
                raise

    of_first("a store", make)
    return mine


def _require_same(
    archive: Archive, cost: Cost, wanted: tuple[NamePair, ...], mine: dict[str, Any]
) -> None:
    """Raise where a store is of another cost than that of a fingerprint.

    Raises:
        HesseFileError: says in what they differ.
    """
    theirs = archive.description.get("fingerprint")
    found = "H.save wrote it, which keeps no fingerprint of the cost"
    if theirs is not None:
        found = difference(cost, mine, theirs)
    if found is None and set(archive.tiling.pairs) != set(wanted):
        found = "it has other blocks"
    if found is not None:
        raise HesseFileError(
            f"out: {str(archive.path)!r} holds the Hessian of another cost: {found}. Name another,"
            " or remove it"
        )


def _require_space(path: Path, size: int) -> None:
    """Raise where so many bytes do not fit on a disk.

    Raises:
        HesseFileError: says how many do.
    """
    free = free_bytes(path.absolute().parent, _ARGUMENT)
    if free < size:
        raise HesseFileError(
            f"out: {str(path)!r} takes {readable_bytes(size)} more, and {readable_bytes(free)} are"
            " free on its disk; make room, or name another"
        )


def _fill(
    cost: Cost, work: TiledWork, planned: Plan, archive: Archive, progress: bool | None
) -> dict[str, str]:
    """Compute the tiles that are not there, which the processes take from one queue; what failed,
    by parameter."""
    panels, missing = of_first("missing tiles", lambda: _dealt(cost, work, planned, archive))
    if not missing:
        return {}
    of_first("space", lambda: _require_space(archive.path, archive.bytes_of(list(missing))))
    turns, sums = _turns(panels), PanelSums(cost, planned, work.share)
    try:
        every = gathered("tiles", lambda: _fill_own(cost, sums, turns, missing, archive, progress))
    except (HesseFileError, HesseDistributedError) as error:
        left = Archive(archive.path, _ARGUMENT)
        done = 1 - left.bytes_of(left.missing) / left.bytes
        raise type(error)(
            f"{error}. {done:.0%} of the Hessian is kept in {str(archive.path)!r}: the same call"
            " goes on from there"
        ) from error
    return {name: reason for failed in every for name, reason in failed.items()}


def _dealt(
    cost: Cost, work: TiledWork, planned: Plan, archive: Archive
) -> tuple[list[Panel], set[Tile]]:
    """The panels with tiles that are missing, and these; of several processes the dearest first, so
    that in the end none waits long for another."""
    missing = set(archive.missing)
    panels = [
        panel
        for panel in work.panels(planned, processes())
        if not missing.isdisjoint(_tiles(archive.tiling, panel))
    ]
    if processes() > 1:
        panels.sort(key=lambda panel: -operations_of(panel, planned))
    return panels, missing


def _turns(panels: list[Panel]) -> Iterator[Panel]:
    """The panels that this process is to compute: of several each takes the next one that nobody
    has taken yet."""
    group = joined()
    if group is None:
        return iter(panels)
    places = iter(group.queue(), None)
    return (panels[place] for place in takewhile(lambda place: place < len(panels), places))


def _fill_own(
    cost: Cost,
    sums: PanelSums,
    turns: Iterator[Panel],
    missing: set[Tile],
    archive: Archive,
    progress: bool | None,
) -> dict[str, str]:
    """Compute some panels; what failed, by parameter."""
    total = archive.bytes_of(list(missing)) / processes()
    with (
        Progress("hessian", total, progress) as bar,
        ThreadPoolExecutor(1, "hesse-writer") as writer,
    ):
        writing, first = None, is_first()
        for panel in turns:
            start = time.perf_counter()
            try:
                made = sums.of(panel)
            except Exception as error:
                if not is_of_strategy(error):
                    raise
                return error_of(cost, error)
            _await(writing, bar)
            seconds = time.perf_counter() - start
            # Written while the next one is summed.
            writing = writer.submit(_written, archive, panel, made, missing, seconds, first)
            del made
        _await(writing, bar)
    return {}


def _await(writing: Future[int] | None, bar: Progress) -> None:
    """A panel is on the disk."""
    if writing is not None:
        bar.advance(writing.result())


def _tiles(tiling: Tiling, panel: Panel) -> Iterator[Tile]:
    return (tile for strip in panel for tile, *_ in tiles_of(tiling, strip))


def _written(
    archive: Archive,
    panel: Panel,
    made: list[Sums],
    missing: set[Tile],
    seconds: float,
    first: bool,
) -> int:
    """Write the tiles of a panel that are missing, and note that they are there: at once, so that a
    kill costs no more than what is under way. Their bytes.

    Args:
        archive: to write to.
        panel: what was made.
        made: its rows.
        missing: tiles that are not there yet.
        seconds: how long it took.
        first: whether this process writes for all what is known of the store.
    """
    squares: dict[Tile, float] = {}
    for strip, sums in zip(panel, made, strict=True):
        for tile, other, rows, columns in tiles_of(archive.tiling, strip):
            if tile in missing:
                values = sums[other][rows, columns]
                values = values if tile.pair == (strip.name, other) else values.mT
                squares[tile] = archive.write(tile, values)
    archive.note(squares)
    archive.description["seconds"] += seconds
    if first:
        archive.update()
    return archive.bytes_of(list(squares))


def _kept(archive: Archive, H: BlockHessian) -> BlockHessian:
    """The Hessian, its certificate kept in the store."""
    if H.certificate is None:
        return H
    certificate, seconds = H.certificate.to_json(), f"{archive.description['seconds']:.6g}"
    provenance = {**archive.description["provenance"], "seconds": seconds}
    of_first(
        "a certificate", lambda: archive.update(certificate=certificate, provenance=provenance)
    )
    return BlockHessian.of(H.entries, provenance, H.certificate)


def _begin_again(cost: Cost, path: Path, wrong: Collection[str]) -> None:
    """The blocks with some parameters are to be made in another way."""
    archive = Archive(path, _ARGUMENT)
    archive.forget(
        [
            tile
            for pair in archive.tiling.pairs
            if not set(wrong).isdisjoint(pair)
            for tile in archive.tiling.of_block(pair)
        ]
    )
    failed = {name: [str(f.strategy), f.reason] for name, f in failures(cost).items()}
    archive.update(failures=failed)
