"""The real `vllm serve` parser, built without a GPU.

Importing this module imports vLLM. vLLM chooses a platform from the hardware when it is first asked; a
machine without an accelerator has none, so the CPU platform is set before the command-line modules load.
"""

import os

# vLLM reads these while it builds the parser: they would change defaults, or put messages between ours.
for _name in [name for name in os.environ if name.startswith(("VLLM_", "HF_"))]:
    del os.environ[_name]
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
os.environ["VLLM_PLUGINS"] = ""
os.environ["VLLM_NO_USAGE_STATS"] = "1"

import vllm.platforms  # noqa: E402
from vllm.platforms.cpu import CpuPlatform  # noqa: E402

vllm.platforms._current_platform = CpuPlatform()

from vllm.entrypoints.cli.serve import ServeSubcommand  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

VERSION: str = vllm.__version__


def parsers() -> tuple[FlexibleArgumentParser, FlexibleArgumentParser]:
    """The `vllm` parser with the one subcommand `serve`, and the `serve` parser itself.

    Built by vLLM's own `ServeSubcommand`, as its `main()` does; the other subcommands do not take part in
    parsing `serve` and are left out.
    """
    top = FlexibleArgumentParser(prog="vllm", description="vLLM CLI")
    commands = top.add_subparsers(required=False, dest="subparser")
    serve = ServeSubcommand().subparser_init(commands)
    return top, serve
