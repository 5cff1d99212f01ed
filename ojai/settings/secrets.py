"""Where a secret comes from: this environment, a file that only its owner reads, or a command. Never the inventory.

What is read here is handed on as standard input of a step on the host, and is in no message.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ojai.profiles.features import Argument, EnvironmentName, OneLine
from ojai.schema.errors import complete
from ojai.schema.expected import Expected

#: Set for a run that only looks, as `ojai verify` does: it asks for no secret.
LOOKING = "OJAI_ASKS_FOR_NO_SECRET"

#: Where Hugging Face's own library looks for a token, in its order.
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

#: Seconds that a command may take; somebody may have to type a passphrase.
TIMEOUT = 120

#: The longest file that can be a secret, in bytes.
_LARGEST = 65_536

_RUNS = Lock()

_EXPECTED = "{env: NAME}, {file: PATH} or {command: [PROGRAM, ARGUMENT]}"


class SecretError(ValueError):
    """A secret that cannot be had: what was found, what is expected, what to do. None of it is a part of the secret."""

    def __init__(self, found: str, expected: str, todo: str) -> None:
        self.found, self.expected, self.todo = found, expected, todo
        super().__init__(f"found {found}; expected {expected}. What to do: {todo}")


class Source(BaseModel):
    """One place that a secret is read from, on the machine that runs the deploy."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    env: EnvironmentName | None = Field(None, description="A variable of the environment.", examples=["HF_TOKEN"])
    file: OneLine | None = Field(
        None, description="A file that only its owner can read (mode 0600).", examples=["~/.config/ojai/hf"]
    )
    command: tuple[Argument, ...] | None = Field(
        None, min_length=1, description="A program that prints it.", examples=[["pass", "show", "hf/token"]]
    )

    @field_validator("env", mode="before")
    @classmethod
    def _a_name(cls, value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value, re.ASCII):
            # Not shown: somebody may have put the secret here.
            raise complete("found something else (not shown); expected the name of a variable")
        return value

    @field_validator("command", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise complete("found something else (not shown); expected a list, such as [pass, show, hf/token]")
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.env, self.file, self.command)) != 1:
            raise complete(f"expected one of {_EXPECTED}")
        return self

    def read(self) -> str | None:
        """The secret; None in a run that asks for none. Raises `SecretError`."""
        return None if os.environ.get(LOOKING) else _checked(_read(self), self)

    def login(self) -> dict[str, str] | None:
        """The secret as ``user:password``, where a password may have any sign; None in a run that asks for none."""
        if os.environ.get(LOOKING):
            return None
        user, colon, password = (text := _read(self)).partition(":")
        if not text.isprintable() or not (user and colon and password):
            found = "no user:password" if text.isprintable() else "a line break"
            raise SecretError(f"{found} in what {self} has", "user:password", "store it again (it is not shown)")
        return {"username": user, "password": password}

    def __str__(self) -> str:
        if self.command:
            return f"the command {self.command[0]}"
        return f"the file {self.file}" if self.file else f"the variable {self.env} of this environment"


def _no_text(value: Any) -> Any:
    # The value that was found is not shown: it may be the secret.
    if not isinstance(value, Mapping | Source):
        raise complete(f"found a text in the inventory (not shown); expected where the secret is: {_EXPECTED}")
    return value


SecretSource = Annotated[Source, BeforeValidator(_no_text), Expected(_EXPECTED)]


def mapping_of_sources(value: Any) -> Any:
    """A validator for settings with many of them: what is written in their place is not shown either."""
    if not isinstance(value, Mapping):
        raise complete(f"found something else (not shown); expected names, each with where its secret is: {_EXPECTED}")
    return value


def token_of_environment() -> dict[str, Source]:
    """``HF_TOKEN``, where a variable of this environment has it: for services whose inventory does not name it."""
    found = next((name for name in TOKENS if os.environ.get(name, "").strip()), None)
    return {"HF_TOKEN": Source(env=found)} if found else {}


def _read(source: Source) -> str:
    if source.command:
        return _printed(source.command, str(source))
    if source.file:
        return _closed(source.file, str(source))
    found = os.environ.get(source.env or "", "").strip()
    if not found:
        raise SecretError(f"nothing in {source}", "the secret", f"`export {source.env}=…` for this run")
    return found


def _printed(command: tuple[str, ...], name: str) -> str:
    with _RUNS:  # hosts ask side by side
        found = _run(command, name)
    if isinstance(found, SecretError):
        raise found.with_traceback(None)
    return found


@cache  # run once, however many hosts want it, and whatever came of it
def _run(command: tuple[str, ...], name: str) -> str | SecretError:
    expected, todo = "a program that prints the secret", f"run it by hand: `{shlex.join(command)}`"
    try:
        # Its complaints go to the terminal, not into a message of ours.
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=TIMEOUT, check=False)
    except OSError as error:
        return SecretError(f"{error.strerror} by {name}", expected, todo)
    except subprocess.TimeoutExpired:
        return SecretError(f"no answer of {name} within {TIMEOUT} s", expected, todo)
    if done.returncode:
        return SecretError(f"exit status {done.returncode} of {name}", expected, todo)
    return _decoded(done.stdout, name)


def _decoded(data: bytes, name: str) -> str | SecretError:
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        todo = "store it again (it is not shown)"
        return SecretError(f"characters that are not UTF-8 in what {name} has", "a text in UTF-8", todo)


def _closed(file: str, name: str) -> str:
    expected, todo = "a file with the secret", "make it, with mode 0600"
    try:
        place = Path(file).expanduser()
        # Without waiting: what is there may be a pipe in which nobody writes.
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
            found = os.fstat(opened.fileno())
            mode = stat.S_IMODE(found.st_mode)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
                raise SecretError(f"no plain file, or one of more than {_LARGEST} bytes: {place}", expected, todo)
            if found.st_uid not in (os.geteuid(), 0) or mode & 0o077:
                raise SecretError(
                    f"{place} of user {found.st_uid} with mode {mode:04o}",
                    "a file that only you can read",
                    f"`chmod 600 {place}`, and another secret if somebody could read this one",
                )
            text = _decoded(opened.read(), name)
    except OSError as error:
        raise SecretError(f"{error.strerror}: {place}", expected, todo) from None
    except RuntimeError:
        raise SecretError(f"no account for the ~ of {file}", expected, "write the whole path") from None
    if isinstance(text, SecretError):
        raise text
    return text


def _checked(text: str, source: Source) -> str:
    """A secret that docker, HTTP and an environment file take as it is."""
    if not re.fullmatch(r"[!-~]+", text) or {"'", '"'} & set(text):
        wrong = "a line break, a blank, a quote or another character" if text else "nothing"
        raise SecretError(
            f"{wrong} in what {source} has", "one word of letters, digits and signs", "store it again (it is not shown)"
        )
    return text
