"""The package as a stranger has it: the wheel, installed in a clean environment, called from another folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import jsonschema
import pytest
import yaml

import ojai
from ojai.cli import main
from ojai.lab.shell import lock

ROOT = Path(__file__).resolve().parents[2]

#: What a wheel is made of.
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "src", "ojai", "roles", "lab", "profiles", "templates", "deploy.py"),
    *("files", "tests/host", "examples/repository", "docs/reference"),
)


def walk(command: click.Command, path: tuple[str, ...] = ()):
    yield path, isinstance(command, click.Group)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


COMMANDS = list(walk(main))
GROUPS = [path for path, group in COMMANDS if group]


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it. ``folder`` is another one, in which everything runs."""

    python: Path
    wheels: tuple[Path, Path]
    folder: Path

    def run(self, *words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``ojai …`` or ``pyinfra …``. No traceback may come of it."""
        program, *rest = words
        # As the console script of a dependency: the folder that it runs in comes last.
        start = [self.python.with_name("ojai")] if program == "ojai" else [self.python, "-P", "-m", program]
        done = subprocess.run(
            [*start, *rest],
            cwd=cwd or self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "XDG_STATE_HOME": str(self.folder / "state"),
                "LC_ALL": "C.UTF-8",
                "COLUMNS": "100",
                "NO_COLOR": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said, f"{words}: {said}"
        return done


def copy_sources(clone: Path) -> None:
    """What a wheel is made of, as git has it: without anything that an earlier build has left."""
    for name in SOURCES:
        (clone / name).parent.mkdir(exist_ok=True, parents=True)
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, clone / name)


def _built(folder: Path) -> tuple[Path, Path]:
    """The wheel of a clone, and the one of its source distribution."""
    clone = folder / "clone"
    copy_sources(clone)
    build = "from setuptools import build_meta; build_meta.build_sdist('..')"
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    wheels = []
    for name, source in (("clone", clone), ("sdist", sdist)):
        target = folder / f"wheel-of-{name}"
        options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", target]
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True, capture_output=True)
        wheels += target.glob("*.whl")
    of_clone, of_sdist = wheels
    return of_clone, of_sdist


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Installed:
    base = tmp_path_factory.getbasetemp()
    top = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installed"  # once for all workers
    top.mkdir(exist_ok=True)
    python = top / "venv" / "bin" / "python"
    with (top / "lock").open("w") as handle:
        lock(handle, "the installed package")
        if not (top / "ready").exists():
            _, wheel = _built(top)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", top / "venv"], check=True)
            install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
            subprocess.run(install, check=True, capture_output=True)
            # The dependencies are those of this environment. Its own .pth files, the clone's among them, are not read.
            (site,) = (top / "venv" / "lib").glob("python*/site-packages")
            (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
            (top / "ready").touch()
    (of_clone,), (of_sdist,) = ((top / f"wheel-of-{name}").glob("*.whl") for name in ("clone", "sdist"))
    folder = tmp_path_factory.mktemp("elsewhere")
    return Installed(python, (of_clone, of_sdist), folder)


def test_the_wheel_is_whole_and_has_nothing_but_the_package(installed):
    of_clone, of_sdist = (zipfile.ZipFile(wheel).namelist() for wheel in installed.wheels)
    assert sorted(of_clone) == sorted(of_sdist)
    tops = {name.split("/")[0] for name in of_sdist}
    assert tops == {"ojai", f"ojai-{ojai.__version__}.dist-info"}
    assert not [name for name in of_sdist if "__pycache__" in name]
    packed = {name.removeprefix("ojai/") for name in of_sdist if name.startswith("ojai/")}
    there = {
        str(Path(folder).relative_to(ROOT / "ojai") / name)
        for folder, _, names in os.walk(ROOT / "ojai", followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }
    assert packed == there
    assert sum(wheel.stat().st_size for wheel in installed.wheels) / 2 < 1_200_000


def test_nothing_of_the_clone_is_on_its_path(installed):
    code = "import json, sys, ojai, ojai.roles, ojai.lab; print(json.dumps([ojai.__file__, *sys.path]))"
    package, *path = json.loads(
        subprocess.run([installed.python, "-c", code], cwd=installed.folder, capture_output=True, check=True).stdout
    )
    assert Path(package).is_relative_to(installed.python.parents[1])
    assert not {str(ROOT), str(ROOT / "src"), str(ROOT / "ojai")} & set(path)
    names = "import importlib.util as u; print(u.find_spec('roles'), u.find_spec('lab'))"
    found = subprocess.run([installed.python, "-c", names], cwd=installed.folder, capture_output=True, check=True)
    assert found.stdout == b"None None\n", "the names are the user's"


@pytest.mark.parametrize(("path", "group"), COMMANDS, ids=[" ".join(("ojai", *path)) for path, _ in COMMANDS])
def test_every_command(installed, path, group):
    # Without programs, so that `ojai lab up` ends with its first, and no lab is made.
    nothing = installed.folder / "nothing"
    nothing.mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        explained, bare, wrong, mistyped, completed = (
            future.result()
            for future in [
                pool.submit(installed.run, "ojai", *path, "--help"),
                pool.submit(installed.run, "ojai", *path, PATH=str(nothing)),
                pool.submit(installed.run, "ojai", *path, "/etc/passwd"),
                pool.submit(installed.run, "ojai", *path, "--no-such-option", "x"),
                pool.submit(
                    installed.run,
                    "ojai",
                    _OJAI_COMPLETE="bash_complete",
                    COMP_WORDS=" ".join(("ojai", *path, "--h")),
                    COMP_CWORD=str(len(path) + 1),
                ),
            ]
        )
    assert explained.returncode == 0 and explained.stdout.startswith(f"Usage: ojai {' '.join(path)}".rstrip())
    assert bare.returncode in (0, 1, 2) and bare.stdout + bare.stderr
    if group:
        assert f"Usage: ojai {' '.join(path)}".rstrip() in bare.stdout + bare.stderr
    assert wrong.returncode in (1, 2) and wrong.stderr
    if path != ("lab", "ssh"):  # whose options are those of the command to run
        assert mistyped.returncode == 2 and "--no-such-option" in mistyped.stderr
    assert completed.returncode == 0 and "plain,--help" in completed.stdout
    site = installed.python.parents[1]
    assert not [*site.rglob(".lab"), *site.rglob("state.json")], "the lab's folder is the user's"


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_subcommand_that_does_not_exist_has_a_suggestion(installed, path):
    for right in [there[-1] for there, _ in COMMANDS if there[:-1] == path and there]:
        near = right[:-2] + right[-1]  # a letter left out
        done = installed.run("ojai", *path, near)
        assert done.returncode == 2
        assert f"No such command '{near}'" in done.stderr and f"'{right}'" in done.stderr


def test_the_commands_are_those_of_the_clone(installed):
    shown = installed.run("ojai", "--help").stdout
    assert all(re.search(rf"^  {path[0]} ", shown, re.MULTILINE) for path, _ in COMMANDS if len(path) == 1)
    version = installed.run("ojai", "--version").stdout
    assert version == f"ojai, version {ojai.__version__}\n"


def test_completion_in_bash(installed):
    script = (
        'eval "$(_OJAI_COMPLETE=bash_source ojai)"; COMP_WORDS=(ojai ver); COMP_CWORD=1; '
        '_ojai_completion ojai; echo "${COMPREPLY[@]}"'
    )
    path = f"{installed.python.parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("verify\n", "")


@pytest.mark.parametrize(("shell", "cword"), [("zsh", "1"), ("fish", "ver")])
def test_completion_in_other_shells(installed, shell, cword):
    source = installed.run("ojai", _OJAI_COMPLETE=f"{shell}_source")
    assert source.returncode == 0 and f"_OJAI_COMPLETE={shell}_complete" in source.stdout
    done = installed.run("ojai", _OJAI_COMPLETE=f"{shell}_complete", COMP_WORDS="ojai ver", COMP_CWORD=cword)
    assert done.returncode == 0 and "verify" in done.stdout


def test_profiles_and_the_lab_are_found(installed):
    assert "gemma-4-e4b" in installed.run("ojai", "profiles").stdout
    assert "Fits" in installed.run("ojai", "budget", "gemma-4-e4b").stdout
    lab = installed.run("ojai", "lab", "status")
    assert (lab.returncode, lab.stdout) == (1, "no lab here yet: run `ojai lab up`\n")
    code = "from ojai.lab import container, image, oci; print(oci.inputs_hash(), image.GUEST, container.BUILD)"
    done = subprocess.run([installed.python, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    _, guest, build = done.stdout.split()
    assert (Path(guest) / "build.sh").is_file() and os.access(build, os.X_OK)


@pytest.fixture
def repository(installed, tmp_path) -> Path:
    done = installed.run("ojai", "init", str(tmp_path / "mine"))
    assert done.returncode == 0, done.stderr
    assert f"cd {tmp_path / 'mine'}" in done.stdout
    return tmp_path / "mine"


def test_init_writes_a_repository_that_works_at_once(installed, repository):
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "ojai.yml").read_text())
    lines = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    assert "pip install -r requirements.txt" in lines.pop(0)
    planned, tried = (installed.run(*line.removeprefix(".venv/bin/").split(), cwd=repository) for line in lines)
    assert planned.returncode == 0 and "gemma-4-26B-A4B-it" in planned.stdout
    assert tried.returncode == 0, tried.stderr
    told = tried.stdout + tried.stderr
    names = (
        "vLLM | vllm-gemma4: start the service",
        "Open WebUI | Write the systemd unit",
        "Open WebUI | Run the service",
    )
    order = [re.search(rf"{re.escape(name)} +2 \(@fake/mini-01, @fake/mini-02\)", told) for name in names]
    assert all(order) and order == sorted(order, key=lambda found: found.start())
    assert installed.run("ojai", "plan", "inventory/mini.py", cwd=repository).returncode == 0
    asked = installed.run("ojai", "plan", "inventory/fake.py", "--facts", cwd=repository)
    assert asked.returncode == 0, asked.stdout + asked.stderr


def test_verify_starts_there(installed, repository):
    assert installed.run("ojai", "verify", "--help", cwd=repository).returncode == 0
    done = installed.run("ojai", "verify", "inventory/fake.py", "--limit", "@fake/mini-01", "--json", cwd=repository)
    assert done.returncode == 1, done.stderr  # there is no such machine
    assert [host["host"] for host in json.loads(done.stdout)["hosts"]] == ["@fake/mini-01"]


def test_the_role_of_their_own_is_removed_before_docker(installed, repository):
    words = ("--dry", "--data", "removed=true", "inventory/fake.py", "deploy.py")
    done = installed.run("pyinfra", *words, cwd=repository)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert -1 < said.index("Open WebUI: removal | Remove the systemd unit") < said.index("Docker: removal |")
    assert "Open WebUI | " not in said


def test_the_unit_of_their_own_role_points_at_the_service(installed, repository):
    fleet = repository / "inventory" / "fleet.yaml"
    fleet.write_text(fleet.read_text().replace("- profile: gemma-4-26b-a4b", "- {profile: gemma-4-e4b, port: 8765}"))
    for host, url, port in (
        ("mini-01", "http://127.0.0.1:8000/v1", 3000),
        ("mini-02", "http://127.0.0.1:8765/v1", 8080),
    ):
        words = ("--dry", "--diff", "--limit", f"@fake/{host}", "inventory/fake.py", "deploy.py")
        done = installed.run("pyinfra", *words, cwd=repository)
        said = done.stdout + done.stderr
        assert f"--env OPENAI_API_BASE_URLS={url} " in said and f"--env PORT={port} " in said


def test_mistakes_there_are_refused_by_name_before_anything_connects(installed, repository):
    faults = {"kernel_rebot": "never", "services": [{"profile": "gemma-4-e5b"}]}
    fleet = repository / "inventory" / "fleet.yaml"
    document = yaml.safe_load(fleet.read_text())
    document["hosts"]["mini-01"].update(faults)
    fleet.write_text(yaml.safe_dump(document))
    single = repository / "inventory" / "mini.py"
    single.write_text(f"{single.read_text()}mini[0][1].update({faults!r})\n")
    for words in (
        ("ojai", "plan", "inventory/fleet.py"),
        ("pyinfra", "--dry", "inventory/fake.py", "deploy.py"),
        ("pyinfra", "--dry", "inventory/mini.py", "deploy.py"),
    ):
        done = installed.run(*words, cwd=repository)
        assert done.returncode != 0 and "Connecting" not in done.stderr
        assert all(named in done.stdout + done.stderr for named in ("kernel_rebot", "gemma-4-e5b"))


def test_init_keeps_what_is_there(installed, repository):
    before = (repository / "deploy.py").read_text()
    for place in (repository, repository / "deploy.py"):
        done = installed.run("ojai", "init", str(place))
        assert done.returncode == 2 and str(place) in done.stderr
    assert (repository / "deploy.py").read_text() == before
    empty = repository / "empty"
    empty.mkdir()
    assert installed.run("ojai", "init", str(empty)).returncode == 0


def test_what_init_writes(installed, repository):
    fleet = (repository / "inventory" / "fleet.yaml").read_text()
    schema = re.match(r"# yaml-language-server: \$schema=(\S+)\n", fleet)[1]
    jsonschema.validate(yaml.safe_load(fleet), json.loads((repository / "inventory" / schema).read_text()))
    assert f"@v{ojai.__version__}\n" in (repository / "requirements.txt").read_text()
    links = [path for path in repository.rglob("*") if path.is_symlink()]
    assert not links, "all of it is theirs"
    source = ROOT / "examples" / "repository"
    names = {str(path.relative_to(repository)) for path in repository.rglob("*") if "__pycache__" not in path.parts}
    assert names == {str(path.relative_to(source)) for path in source.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize("name", ["yaml", "pyinfra", "roles"])
def test_an_inventory_may_have_the_name_of_any_package(installed, tmp_path, name):
    (tmp_path / f"{name}.py").write_text("from ojai.fake import fake_host\nmine = [fake_host('mini', {})]\n")
    for words, deploy in ((["ojai", "plan"], []), (["pyinfra", "--dry"], [str(ROOT / "deploy.py")])):
        tried = installed.run(*words, f"{name}.py", *deploy, cwd=tmp_path)
        assert tried.returncode == 0, tried.stderr


@pytest.mark.parametrize("clone", [False, True], ids=["installed", "clone"])
def test_no_folder_and_no_inventory_hides_the_package(installed, tmp_path, clone):
    """A folder called ojai (the parent of a clone has one) and an inventory called ojai.py (as in inventory/)."""
    one = Installed(Path(sys.executable), installed.wheels, tmp_path) if clone else installed
    (tmp_path / "ojai").mkdir()
    (tmp_path / "in").mkdir()
    written = "from ojai.fake import fake_host\nojai = [fake_host('mini', {})]\n"
    (tmp_path / "in" / "ojai.py").write_text(written)
    for cwd, inventory in ((tmp_path, "in/ojai.py"), (tmp_path / "in", "ojai.py")):
        assert one.run("ojai", "profiles", cwd=cwd).returncode == 0
        planned = one.run("ojai", "plan", inventory, cwd=cwd)
        assert planned.returncode == 0, planned.stderr
        tried = one.run("pyinfra", "--dry", inventory, str(ROOT / "deploy.py"), cwd=cwd)
        assert tried.returncode == 0, tried.stderr


def test_the_deploy_uses_sudo_from_any_folder(installed, tmp_path):
    """config.py is read from the folder that pyinfra is called in, which here has none."""
    inventory = tmp_path / "one.py"
    inventory.write_text("from ojai.fake import fake_host\none = [fake_host('mini', {})]\n")
    (tmp_path / "ask.py").write_text(
        "from pyinfra import config, host, logger\nfrom ojai.deploy import provision\n"
        f"exec(open({str(ROOT / 'deploy.py')!r}).read())\nlogger.info(f'sudo is {{config.SUDO}}')\n"
    )
    done = installed.run("pyinfra", "--dry", str(inventory), "ask.py", cwd=tmp_path)
    assert done.returncode == 0 and "sudo is True" in done.stderr
