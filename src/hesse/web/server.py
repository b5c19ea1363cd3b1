"""The server: pages, what they ask for, and who answers."""

import contextlib
import ipaddress
import json
import os
import socket
import webbrowser
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from hesse.derivation.show import html
from hesse.display.templates import templates
from hesse.errors import HesseError, HesseValueError, in_a_line
from hesse.web import answers, explore, numbers, plane
from hesse.web.connection import Connection
from hesse.web.examples import EXAMPLES
from hesse.web.graph import graph
from hesse.web.guard import LARGEST, Guard
from hesse.web.question import Question
from hesse.web.workers import Answer, TooMuch, Workers

HERE = frozenset({"127.0.0.1", "localhost", "::1"})
PLACES = (("/", "Derive"), ("/graph", "Graph"), ("/numbers", "Numbers"), ("/explore", "Explore"))
Endpoint = Callable[[Request], Awaitable[Response]]
_STATIC = Path(__file__).parent / "static"
# What a derivation's own page has in it too.
_TIP = Path(html.__file__).parent / "templates" / "tip.js"
_LONGEST_LINK = 1 << 18  # bytes of a request before its body
# Beyond the turns that are had at once, requests wait in threads of their own.
_WAITING = 256


class Site:
    """The pages of one server.

    Args:
        workers: who answers.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._waiting = anyio.CapacityLimiter(_WAITING)
        self._templates = templates("hesse.web")

    async def ask(self, how: Answer, said: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """An answer and its status, ``{"error": text}`` where there is none."""
        try:
            found = await anyio.to_thread.run_sync(
                self._workers.answer, how, said, limiter=self._waiting
            )
        except TooMuch as error:
            return 503, {"error": str(error)}
        return (422 if "error" in found else 200), found

    def render(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page."""
        page = self._templates.get_template(template).render(places=PLACES, **values)
        return HTMLResponse(page, status)

    async def derive(self, request: Request) -> Response:
        """The page for derivations, with the answer to what its link asks."""
        status, found, question = 200, {}, Question()
        try:
            question = Question.of(request.query_params)
            if question:
                status, found = await self.ask(answers.derivation, request.query_params)
        except HesseError as error:
            status, found = 422, {"error": str(error)}
        return self.render(
            "derive.html.j2",
            status,
            here="/",
            question=question or EXAMPLES[0].question,
            examples=EXAMPLES,
            answer=None if "error" in found else found,
            error=found.get("error"),
            state=f"Derived in {found['seconds']:.1f} s." if "seconds" in found else "",
        )

    def part(self, how: Answer, shown: Callable[[dict[str, Any]], Response]) -> Endpoint:
        """What is shown of an answer by itself, or in its place what is wrong with the question."""

        async def endpoint(request: Request) -> Response:
            status, found = await self.ask(how, request.query_params)
            if "error" in found:
                return self.render("error.html.j2", status, error=found["error"])
            return shown(found)

        return endpoint

    def written(self, template: str) -> Callable[[dict[str, Any]], Response]:
        """An answer as a part of the page."""
        return lambda found: self.render(template, answer=found)

    async def numbers(self, request: Request) -> Response:
        """The page for numbers; its script asks for them."""
        usual = {"network": "2-3-1, sigmoid, half_sse", "seed": "0", "samples": "5", "arrays": ""}
        given = {name: request.query_params.get(name, text) for name, text in usual.items()}
        return self.render("numbers.html.j2", here="/numbers", given=given)

    def explore(self, saved: Path | None) -> Endpoint:
        """The page for the Hessian that was named on the command line."""

        async def page(request: Request) -> Response:
            name = None if saved is None else saved.name
            return self.render("explore.html.j2", here="/explore", saved=name)

        return page

    def json(self, how: Answer) -> Endpoint:
        """What answers a script: the fields of a link, or of a body of JSON, where they are long,
        to JSON."""

        async def endpoint(request: Request) -> Response:
            said: Mapping[str, str] = request.query_params
            if request.method == "POST":
                said = await _fields(request)
            status, found = await self.ask(how, said)
            return JSONResponse(found, status)

        return endpoint

    async def graph(self, request: Request) -> Response:
        """The page for computational graphs, with the one that its link asks for."""
        status, found, question = 200, {}, EXAMPLES[0].question
        try:
            question = Question.of(request.query_params) or question
            others = {name: request.query_params.get(name, "") for name in ("seed", "arrays")}
            status, found = await self.ask(graph, asdict(question) | others)
        except HesseError as error:
            status, found = 422, {"error": str(error)}
        return self.render(
            "graph.html.j2",
            status,
            here="/graph",
            question=question,
            seed=request.query_params.get("seed", "0"),
            arrays=request.query_params.get("arrays", ""),
            examples=EXAMPLES,
            answer=None if "error" in found else found,
            error=found.get("error"),
        )


def _kept(name: str, file: str, kind: str) -> Callable[[dict[str, Any]], Response]:
    """A text of an answer as a file to keep."""
    headers = {"Content-Disposition": f'attachment; filename="{file}"'}
    return lambda found: Response(found[name], media_type=kind, headers=headers)


async def _tip(request: Request) -> Response:
    return FileResponse(_TIP)


async def _fields(request: Request) -> dict[str, str]:
    """The texts of a body."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            # One that does not say its length before is counted.
            if len(body) > LARGEST:
                raise HTTPException(413, f"A request may have {LARGEST} bytes.")
    except ClientDisconnect:  # it was too slow, or has gone
        raise HTTPException(400, "The body has no end.") from None
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not all(isinstance(text, str) for text in said.values()):
        raise HTTPException(400, "A body holds texts by their names, as JSON.")
    return said


def application(
    workers: Workers | None = None, hosts: frozenset[str] = HERE, saved: Path | None = None
) -> Starlette:
    """The server as an ASGI application.

    Args:
        workers: who answers; by default as many processes at once as there are cores, each with 20
            seconds and 2 GiB.
        hosts: names by which it may be called.
        saved: a Hessian to explore; no other file is ever read.
    """
    site = Site(workers or Workers())
    asked: list[BaseRoute] = [
        Route(f"/numbers/{how.__name__}", site.json(how), methods=["POST"])
        for how in (numbers.drawn, numbers.filed, numbers.matrix, numbers.block, plane.plane)
    ]
    if saved is not None:
        asked += [
            Route(f"/explore/{how.__name__}", site.json(partial(how, os.fspath(saved))))
            for how in (explore.about, explore.window, explore.spectrum)
        ]
    return Starlette(
        routes=[
            Route("/", site.derive),
            Route("/reading", site.json(answers.reading)),
            Route("/answer", site.part(answers.derivation, site.written("answer.html.j2"))),
            Route("/file", site.part(answers.page, _kept("page", "derivation.html", "text/html"))),
            Route("/numbers", site.numbers),
            *asked,
            Route("/explore", site.explore(saved)),
            Route("/graph", site.graph),
            Route("/graph/answer", site.part(graph, site.written("graph_answer.html.j2"))),
            Route("/graph/figure", site.part(graph, _kept("svg", "graph.svg", "image/svg+xml"))),
            Route("/static/tip.js", _tip),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
    )


def serve(
    host: str = "127.0.0.1",
    port: int = 8765,
    names: frozenset[str] = frozenset(),
    open_page: bool = False,
    saved: Path | None = None,
) -> None:
    """Answer until Ctrl-C.

    Args:
        host: the address to listen on; by default only programs on this machine reach it.
        port: a number up to 65535; 0 for any that is free.
        names: by which browsers may call the server, beside this machine's own.
        open_page: whether to open the page in a browser.
        saved: a Hessian to explore.

    Raises:
        HesseValueError: the address cannot be listened on.
    """
    workers = Workers()
    # Its end, and not a traceback, is what Ctrl-C asks for.
    with _listening(host, port) as listening, contextlib.suppress(KeyboardInterrupt):
        address, port = listening.getsockname()[:2]
        print("starting …", flush=True)
        # So that whoever opens the page does not wait for it.
        workers.warm()
        place = f"http://{_callable(address)}:{port}/" + ("explore" if saved else "")
        print(f"{place}  (Ctrl-C ends it)", flush=True)
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            others = " or ".join(sorted(names)) or "nothing else yet: name it with --name"
            print(
                "Whoever reaches this machine may ask, unencrypted and without a password."
                f" Browsers may call it localhost or {others}.",
                flush=True,
            )
        if open_page:
            webbrowser.open(place)
        _run(application(workers, HERE | names | {address}, saved), workers, listening)


class _Server(uvicorn.Server):
    """One that does not wait for answers when it ends."""

    def __init__(self, config: uvicorn.Config, workers: Workers) -> None:
        super().__init__(config)
        self._workers = workers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._workers.close()
        await super().shutdown(sockets)


def _run(answering: Starlette, workers: Workers, listening: socket.socket) -> None:
    config = uvicorn.Config(
        answering,
        http=Connection,
        ws="none",
        lifespan="off",
        log_level="critical",
        # Who asks is who is connected, and not who says so in a header.
        proxy_headers=False,
        # Every field as long as it may be, its letters as nine characters each.
        h11_max_incomplete_event_size=_LONGEST_LINK,
        timeout_graceful_shutdown=3,
    )
    _Server(config, workers).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise HesseValueError(
            f"--port: {host}:{port} cannot be listened on ({in_a_line(error)}); name another"
        ) from error


def _callable(address: str) -> str:
    """What a browser on this machine calls the address that is listened on."""
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return here.get(address) or (f"[{address}]" if ":" in address else address)
