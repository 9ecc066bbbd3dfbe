"""Take the pictures of the manual: ``scripts/docs pictures``. The status page's is made by ``test_status_page``."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.e2e.running import ROOT
from tests.servers.browser import browsing

IMAGES = ROOT / "docs" / "images"
PAGES = {"site-readme.png": "index.html", "site-tutorial.png": "docs/tutorial.html"}
SIZE = (1100, 800)


def main() -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "docs_site.py")], check=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(ROOT / "build" / "site"))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        tempfile.TemporaryDirectory() as folder,
        browsing(Path(folder), "--force-prefers-reduced-motion") as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.resize(*SIZE)
        for name, page in PAGES.items():
            browser.open(f"http://127.0.0.1:{server.server_port}/{page}")
            (IMAGES / name).write_bytes(browser.screenshot())
        server.shutdown()
    subprocess.run([sys.executable, "-m", "tests.e2e.test_status_page"], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
