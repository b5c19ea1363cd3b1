"""The server as others on a network meet it: slow clients, many, what it prints, and its end."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

import hesse
from hesse.web import connection
from hesse.web import server as module
from hesse.web.server import application
from web.answering import Here, client


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(connection, "SECONDS", 0.3)
    monkeypatch.setattr(connection, "MOST", 8)
    options = {"log_level": "error", "lifespan": "off", "h11_max_incomplete_event_size": 1 << 18}
    config = uvicorn.Config(application(Here()), port=0, http=connection.Connection, **options)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join()


def answered(port: int, sent: bytes) -> bytes:
    """What comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent)
        found = b""
        while part := client.recv(1 << 16):
            found += part
    return found


def head(port: int, *lines: str, line: str = "GET /static/page.css HTTP/1.1") -> bytes:
    host = f"Host: 127.0.0.1:{port}"
    return "\r\n".join([line, host, *lines, "", ""]).encode("latin1")


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST /numbers/matrix HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
        b"POST /numbers/matrix HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_who_does_not_end_a_request_is_not_waited_for(port: int, sent: bytes) -> None:
    start = time.perf_counter()
    with contextlib.suppress(ConnectionResetError):
        assert answered(port, sent) == b""
    assert 0.2 < time.perf_counter() - start < 5


def test_who_sends_drop_by_drop_is_not_either(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client, pytest.raises(OSError):
        for _ in range(200):
            client.sendall(b"X")
            time.sleep(0.02)


def test_many_connections_leave_room(port: int) -> None:
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
    time.sleep(0.6)
    assert status(answered(port, head(port, "Connection: close"))) == 200
    for one in many:
        one.close()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Content-Length: -1"], 400),
        (["Host: evil.example"], 400),
        (["X: \x00"], 400),
        (["Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13"], 200),
        (["Upgrade: h2c", "Connection: upgrade"], 200),
        (["Range: bytes=0-5,0-5,0-5"], 206),
    ],
)
def test_what_is_sent_before_a_body(port: int, lines: list[str], expected: int) -> None:
    # No protocol but HTTP is spoken.
    try:
        assert status(answered(port, head(port, *lines, "Connection: close"))) == expected
    except ConnectionResetError:  # before all of it was sent
        assert expected == 400


def test_a_header_without_end_is_refused(port: int) -> None:
    with contextlib.suppress(ConnectionError):  # before all of it was sent
        assert status(answered(port, b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000)) == 400


def test_a_long_link_is_read(port: int) -> None:
    line = "GET /?cost=" + "%E2%88%82" * 4000 + "&network=" + "%E2%88%82" * 4000 + " HTTP/1.1"
    assert status(answered(port, head(port, "Connection: close", line=line))) == 422


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "/static/%00",
        "//evil.example/",
        "/%0aX:1",
    ],
)
def test_no_path_leads_elsewhere(port: int, path: str) -> None:
    asked = http.client.HTTPConnection("127.0.0.1", port)
    asked.request("GET", path)
    assert asked.getresponse().status == 404


def test_a_link_among_the_files_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder := tmp_path / "static").mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STATIC", folder)
        assert client().get("/static/link").status_code == 404


@pytest.mark.parametrize("host", ["256.0.0.1", "no such host", "x" * 300, "\udc80"])
def test_an_address_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(hesse.HesseError, match="cannot be listened on"):
        module.serve(host, 0)


def test_a_port_that_is_taken_is_refused() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(hesse.HesseError, match="cannot be listened on"),
    ):
        module.serve("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", r"starting …\nhttp://127\.0\.0\.1:\d+/  \(Ctrl-C ends it\)\n$"),
        ("::1", r"http://\[::1\]:\d+/  \(Ctrl-C"),
        ("0.0.0.0", r"http://127\.0\.0\.1:\d+/ (.|\n)*without a password(.|\n)* box"),
    ],
)
def test_what_it_prints(
    host: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "Workers", Here)
    monkeypatch.setattr(module, "_run", lambda *_: None)
    try:
        module.serve(host, 0, frozenset({"box"} if host == "0.0.0.0" else ()))
    except hesse.HesseError:
        pytest.skip("this machine has no such address")
    assert re.search(said, capsys.readouterr().out)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_ctrl_c_ends_it_while_it_works() -> None:
    code = "from hesse.web.server import serve; serve(port=0)"
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "starting …\n"
    place = running.stdout.readline().split()[0]
    asked = http.client.HTTPConnection(place.split("/")[2])
    # More than the time allows.
    asked.request("GET", "/answer?network=" + "9-" * 40 + "9")
    time.sleep(1)
    os.kill(running.pid, signal.SIGINT)
    out, error = running.communicate(timeout=10)
    assert (running.returncode, out, error) == (0, "", "")
