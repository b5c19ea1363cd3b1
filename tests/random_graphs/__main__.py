"""The command; see `random_graphs.many`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Run as a folder, only the folder itself is on the path.
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
    from random_graphs.many import main

    main()
