"""Pages in a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")


def in_a_browser(text: str, script: str, width: int, folder: Path) -> Any:
    """What a script returns that runs in this page, in a window of this width; skips where there is no browser."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} (`make browser` installs one)")
    asked = f"""<script>addEventListener("load", () => {{
      const out = (() => {{ {script} }})();
      document.body.innerHTML = ""; document.body.textContent = "FOUND" + JSON.stringify(out) + "END";
    }})</script>"""
    page = folder / "page-in-a-browser.html"
    page.write_text(text.replace("</body>", f"{asked}</body>"))
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
         f"--window-size={width},2000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    said = done.stdout.partition("FOUND")[2].partition("END")[0]
    return json.loads(said.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
