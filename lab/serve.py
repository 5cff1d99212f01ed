"""Serves a folder over HTTP on loopback, for the apt archive: `python serve.py FOLDER PORT`."""

from __future__ import annotations

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def main(folder: str, port: int) -> None:
    """Serve until stopped. One thread a request; requests are logged on stderr."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
