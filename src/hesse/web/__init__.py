"""Questions asked in a browser: a local server, its pages, and the processes that answer."""
