"""What only a release knows: where the project is kept, for the package index to lead there.

The address is no part of the source, which would name one place in every copy and fork of it. Who
publishes gives it as ``HESSE_REPOSITORY``, as the release workflow does; without it the package has
no addresses, and its page the links of the README as they are.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "HESSE_REPOSITORY"
# A link or a picture of Markdown that leads to a file beside the page.
RELATIVE = re.compile(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)")


class Addresses(MetadataHookInterface):
    """The README and the addresses of ``[project]``."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Fills them in.

        Raises:
            ValueError: the variable is no address.
        """
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = os.environ.get(VARIABLE, "").rstrip("/")
        metadata["urls"] = {}
        if repository:
            if not re.fullmatch(r"https://[^\s/]+/\S+", repository):
                raise ValueError(
                    f"{VARIABLE}: expected the address of a repository, as"
                    f" https://host/owner/name, got {repository!r}"
                )
            tag = f"v{metadata['version']}"
            text = whole(text, repository, tag)
            metadata["urls"] = {
                "Repository": repository,
                "Documentation": f"{repository}/blob/{tag}/docs/index.md",
                "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def whole(text: str, repository: str, tag: str) -> str:
    """A page whose links lead into the repository as it was tagged, from wherever it is read."""

    def absolute(link: re.Match[str]) -> str:
        picture, name, path = link.groups()
        return f"{picture}{name}({repository}/{'raw' if picture else 'blob'}/{tag}/{path})"

    return RELATIVE.sub(absolute, text)
