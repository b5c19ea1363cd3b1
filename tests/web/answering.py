"""What answers in the test's own process, without the time that another takes to start."""

from collections.abc import Mapping
from typing import Any

from starlette.testclient import TestClient

from hesse.errors import HesseError
from hesse.web.server import application
from hesse.web.workers import Answer, Workers


class Here(Workers):
    """Workers that are this process."""

    def warm(self) -> None:
        """Nothing is forked."""

    def answer(self, how: Answer, said: Mapping[str, str]) -> dict[str, Any]:
        try:
            return how(said)
        except HesseError as error:
            return {"error": str(error)}


def client(**options: Any) -> TestClient:
    """A browser without a window, on this machine."""
    return TestClient(application(Here(), **options), base_url="http://127.0.0.1:8765")
