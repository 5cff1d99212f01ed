"""What people read first: links lead somewhere, the index has every task, what contributors are asked for is sound."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from ojai.cli import main
from ojai.diagnosis import catalogue

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")])
LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FORMS = sorted(path for path in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml") if path.stem != "config")


FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without what stands in code: ``a[0](x)`` there is no link."""
    return re.sub(r"^(?: {4}|\t)(?! *[-*0-9]).*$|`[^`\n]*`", "", FENCE.sub("", page.read_text()), flags=re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of all headings of a page; one that comes again is numbered."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", page.read_text()), re.MULTILINE):
        stem = slug(heading)
        found.add(next(name for name in (stem, *(f"{stem}-{n}" for n in range(1, 99))) if name not in found))
    return found


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of it."""
    faults = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            faults.append(link)
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One\n\n## `a_b`, two\n\n```sh\n# no heading\n```\n\n## One\n")
    page = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#a_b-two) [c](#here) [d](https://example.net/x) `[e](no.md)` [f](other.md#one-1)"
    page.write_text(f"# Here\n\n{good}\n\n```\n[g](no.md)\n```\n")
    assert broken(page) == []
    page.write_text("[a](no.md) [b](other.md#two) [`c`](#away) [d](other.md#no-heading)\n")
    assert broken(page) == ["no.md", "other.md#two", "#away", "other.md#no-heading"]


def test_readme_links_are_read_at_all() -> None:
    assert sum(len(LINK.findall(prose(page))) for page in PAGES) > 50


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("Chat with it", "/v1/chat/completions"),
        ("See its logs", "journalctl -u vllm-gemma4"),
        ("Update it", "git pull"),
        ("Is it fast?", "ojai budget"),
        ("Add a second box", "inventory/ojai.py"),
        ("Something is wrong", "ojai verify"),
    ],
)
def test_the_index_leads_from_each_task_to_what_does_it(task: str, words: str) -> None:
    rows = re.findall(r"^\| (.+?) \| \[.*?\]\((.+?)\)", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    path, _, anchor = dict(rows)[task].partition("#")
    text = (ROOT / "docs" / path).read_text()
    if anchor:
        starts = [found.start() for found in re.finditer(r"^## ", text, re.MULTILINE)] + [len(text)]
        sections = [text[start:end] for start, end in pairwise(starts)]
        [text] = [part for part in sections if slug(part.splitlines()[0].removeprefix("## ")) == anchor]
    assert words in text


def commands() -> list[tuple[str, str]]:
    """(page, line) of every command of ours in a guide's shell block."""
    found = []
    for page in sorted(ROOT.glob("docs/guide/*.md")):
        for block in re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
            lines = [part.strip() for line in block.splitlines() for part in line.split("&&")]
            found += [(page.stem, line) for line in lines if re.match(r"(ojai|make) ", line)]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_the_guides_commands_exist(page: str, line: str) -> None:
    program, word, *rest = shlex.split(line, comments=True)
    if program == "make":
        makefiles = "\n".join(path.read_text() for path in (ROOT / "Makefile", *ROOT.glob("mk/*.mk")))
        assert re.search(rf"^{re.escape(word)}:", makefiles, re.MULTILINE), line
        return
    with main.make_context("ojai", ["--help"], resilient_parsing=True) as context:
        command = main.get_command(context, word)
    assert command, line
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {part for part in rest if part.startswith("--")} <= options | {"--help"}, line


HALF_HOUR = ROOT / "docs" / "guide" / "first-half-hour.md"


@pytest.mark.parametrize("line", [line for page, line in commands() if page == HALF_HOUR.stem])
def test_each_command_of_the_first_half_hour_is_taken(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inventory").symlink_to(ROOT / "inventory")
    (tmp_path / "mine.json").touch()
    monkeypatch.chdir(tmp_path)
    _, word, *rest = shlex.split(line, comments=True)
    with main.make_context("ojai", ["--help"], resilient_parsing=True) as context:
        command = main.get_command(context, word)
    assert command
    command.make_context(word, rest)


def test_what_the_doctor_says_in_the_first_half_hour_is_what_it_knows() -> None:
    text = HALF_HOUR.read_text()
    known = {one.code: one for name in ("failures", "failures-installing", "symptoms") for one in catalogue(name)}
    said = re.findall(r"^(?:cause|flaw|seen too) ([a-z-]+): (.+)\n  What to do: (.+)$", text, re.MULTILINE)
    assert {"context-beyond-model", "docker-down"} <= {code for code, _, _ in said}
    for code, cause, fix in said:
        assert (cause, fix) == (known[code].cause, known[code].fix.replace("UNIT", "vllm-gemma4")), code


def test_the_first_half_hour_goes_from_chat_to_mend_and_is_found() -> None:
    headings = re.findall(r"^## (.+)$", HALF_HOUR.read_text(), re.MULTILINE)
    assert headings[:5] == ["Chat", "Look", "Measure", "Break", "Mend"]
    programs = {line.split()[1] for page, line in commands() if page == HALF_HOUR.stem}
    assert {"open", "status", "logs", "verify", "smoke", "bench", "doctor"} <= programs
    for page in ("README.md", "docs/index.md"):
        assert HALF_HOUR.name in (ROOT / page).read_text(), page


def test_pre_commit_runs_only_what_make_setup_installs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {"ruff-check", "ruff-format", "mypy", "yaml"} <= {hook["id"] for hook in hooks}
    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    for hook in hooks:
        assert hook["language"] == "system" and hook["name"]
        program, *words = shlex.split(hook["entry"])
        if program.startswith(".venv/bin/"):
            name = program.removeprefix(".venv/bin/")
            assert name in (*pinned, "python"), hook["id"]
        else:
            assert shutil.which(program), hook["id"]
        if words[:1] == ["-m"]:
            assert importlib.util.find_spec(words[1]), hook["id"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_issue_forms_ask_for_what_is_needed(form: Path) -> None:
    document = yaml.safe_load(form.read_text())
    assert document["name"] and document["description"]
    fields = [entry for entry in document["body"] if entry["type"] != "markdown"]
    names = [entry["id"] for entry in fields]
    assert fields and len(set(names)) == len(names)
    for entry in fields:
        assert entry["type"] in ("input", "textarea", "dropdown", "checkboxes"), entry
        assert entry["attributes"]["label"], entry
    assert any(entry.get("validations", {}).get("required") for entry in fields)


def test_a_bug_report_has_version_inventory_and_output() -> None:
    document = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    required = {entry["id"] for entry in document["body"] if entry.get("validations", {}).get("required")}
    assert {"version", "inventory", "output"} <= required
    assert [form.stem for form in FORMS] == ["bug", "feature", "hardware"]


def test_dependabot_watches_what_is_pinned() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {entry["package-ecosystem"] for entry in updates} == {"pip", "github-actions"}


def test_the_pins_of_the_site_agree_with_those_of_make_setup() -> None:
    """Both are installed into one environment."""

    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))

    mine, site = pins("requirements.txt"), pins("requirements-docs.txt")
    assert {name: version for name, version in site.items() if mine.get(name, version) != version} == {}
    assert not [name for name in ("sphinx", "myst-parser", "furo") if name not in site]
    for name in ("requirements.txt", "requirements-docs.txt"):
        text = (ROOT / name).read_text()
        assert "index-url" not in text and "--find-links" not in text
        assert text.count("--hash=sha256:") >= len(pins(name))
