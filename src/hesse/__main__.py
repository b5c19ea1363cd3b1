"""`python -m hesse`: the command line without its script."""

import sys

from hesse.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
