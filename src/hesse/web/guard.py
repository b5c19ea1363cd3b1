"""What stands before every page: who may ask, and what a page may load."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 1 << 20  # bytes of a request

# Nothing from elsewhere, no script but the files of this package. Formulas carry styles of their
# own: which of their readings is shown.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Guard:
    """Refuses requests that a page of this server did not send, and large ones.

    A page on the internet can have a browser send requests to this machine. Such a request names
    another origin, or, where a name was pointed at this machine on purpose (DNS rebinding), another
    host.

    Args:
        hosts: names by which the server may be called, without ports; ``"*"`` for any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # nothing here speaks over web sockets
        refusal = self._refusal(Headers(scope=scope))

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if refusal is not None:
            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, secured)
        else:
            await self.app(scope, receive, secured)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if "*" not in self.hosts and _name(host) not in self.hosts:
            return 421, "This server is not called by that name."
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "Only pages of this server may ask."
        # Links from elsewhere may be followed; nothing may be embedded or fetched. A frame is
        # navigated too.
        elsewhere = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest", "document"))
        if elsewhere and followed != ("navigate", "document"):
            return 403, "Only pages of this server may ask."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST:
            return 413, f"A request may have {LARGEST} bytes."
        return None


def _name(host: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        found = urlsplit(f"//{host}")
    except ValueError:  # brackets that hold no address
        return None
    return found.hostname if found.netloc == host and "@" not in host else None
