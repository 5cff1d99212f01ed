"""vLLM: its command line, the container that runs it, and what cannot work.

- `cli`: the flags of its parser, by release;
- `command`: the `docker run` list;
- `refusals`: what cannot work, with reason and source;
- `render`: all of it together;
- `reasons`: what each option is for.
"""

from ojai.engines.vllm.command import (
    BASE_DIRECTORY,
    MOUNTS,
    Command,
    Refusal,
    RefusedError,
    directories,
    image_key,
)
from ojai.engines.vllm.refusals import findings, refusals
from ojai.engines.vllm.render import render

__all__ = [
    "BASE_DIRECTORY",
    "MOUNTS",
    "Command",
    "Refusal",
    "RefusedError",
    "directories",
    "findings",
    "image_key",
    "refusals",
    "render",
]
