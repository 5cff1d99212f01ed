"""tools/suites.sh, which `make test` ends with: what each suite took, and the status of the one that failed."""

import re
import subprocess
from pathlib import Path

import pytest

SUITES = Path(__file__).parents[2] / "tools" / "suites.sh"


@pytest.mark.parametrize(
    ("asked", "status", "rows"),
    [
        (("good", "fine"), 0, [("good", "passed"), ("fine", "passed"), ("total", "passed")]),
        (("good", "bad", "fine"), 2, [("good", "passed"), ("bad", "failed"), ("total", "failed")]),
    ],
)
def test_the_table_ends_with_the_first_failure(tmp_path, asked, status, rows):
    (tmp_path / "Makefile").write_text("good fine:\n\t@true\nbad:\n\t@false\n")
    done = subprocess.run([SUITES, *asked], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status
    head, *lines = f"\n{done.stdout.rstrip()}".rsplit("\n\n", 1)[-1].splitlines()
    assert head.split() == ["suite", "minutes", "result"]
    assert re.findall(r"^(\S+) +\d+\.\d +(\S+)$", "\n".join(lines), re.MULTILINE) == rows
