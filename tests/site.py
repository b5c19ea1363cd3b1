"""Every page of the site in a browser, on a phone and a desk, by day and by night: axe-core finds
nothing. A script, after ``make docs``: ``python tests/site.py``."""

import sys
from pathlib import Path

from browsing import CHROMIUM, EVERY_SCREEN, accessible, chromium

SITE = Path(__file__).parents[1] / "site"


def main() -> int:
    """The pages that fail, and what axe-core says of them."""
    # What a server says of a page that is not there finds its style and its script by a server.
    pages, failed = sorted({*SITE.rglob("*.html")} - {SITE / "404.html"}), 0
    if not pages or CHROMIUM is None:
        print("needs site/, which `make docs` builds, and Chromium", file=sys.stderr)
        return 2
    with chromium() as browser:
        for width, scheme in EVERY_SCREEN:
            # Its own window for each, for colours fade over and widths are looked at as it opens.
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            for path in pages:
                page.goto(path.as_uri())
                try:
                    accessible(page, [(width, scheme)])
                except AssertionError as error:
                    failed += 1
                    print(f"{path.relative_to(SITE)}: {error}")
            page.close()
    print(f"{len(pages)} pages on {len(EVERY_SCREEN)} screens, {failed} times failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
