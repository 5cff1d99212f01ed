"""What vLLM itself says about a command line, up to the point where it would need the model."""

import contextlib
import copy
import io
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple

from ojai.engines.vllm.cli import load
from tools.contract import real  # before vllm: it sets the platform

import vllm.config  # isort: skip
from pydantic import TypeAdapter, ValidationError  # isort: skip
from vllm import AsyncEngineArgs  # isort: skip
from vllm.config.speculative import SpeculativeConfig  # isort: skip
from vllm.entrypoints.cli.serve import ServeSubcommand  # isort: skip

if find_spec("vllm.entrypoints.launchers"):
    from vllm.entrypoints.launchers.launcher import validate_api_server_args  # isort: skip
else:  # before 0.33
    from vllm.entrypoints.openai.api_server import validate_api_server_args  # isort: skip
from vllm.model_executor.layers import quantization  # isort: skip
from vllm.parser import ParserManager  # isort: skip

# Groups whose JSON arguments become plain fields; elsewhere they become classes, which the parser has checked.
JSON_GROUPS = {"ModelConfig", "MultiModalConfig", "LoRAConfig"}


class Verdict(NamedTuple):
    """vLLM's answer: the exit status it would have, in which step, and its last line."""

    status: int
    step: str  # "parser", "serve" (checks of the serve command), "engine" (configuration classes), "accepted"
    message: str

    @property
    def accepted(self) -> bool:
        """Whether vLLM goes on to load the model."""
        return self.step == "accepted"


class Judge:
    """vLLM's parser and the checks that follow it, built once."""

    def __init__(self) -> None:
        self.top, serve = real.parsers()
        self.serve = ServeSubcommand()
        self.groups = {a.dest: g.title or "" for g in serve._action_groups for a in g._group_actions}
        arguments = load(real.VERSION).arguments
        self.json_fields = {a.dest for a in arguments if a.shape and a.group in JSON_GROUPS}

    def verdict(self, engine_argv: Sequence[str]) -> Verdict:
        """vLLM's answer to ``vllm serve <engine_argv>``."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                args = self.top.parse_args(["serve", *engine_argv])
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else 1
            return Verdict(status, "parser", _error_line(said.getvalue()))
        except Exception as failed:  # vLLM's own additions to argparse raise all sorts: a traceback and status 1
            return Verdict(1, "parser", _said(failed))
        for step, checks in (("serve", self._serve_checks), ("engine", self._engine_checks)):
            try:
                with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                    checks(copy.deepcopy(args))
            except Exception as failed:  # as above
                return Verdict(1, step, _said(failed))
        return Verdict(0, "accepted", "")

    def _serve_checks(self, args: Namespace) -> None:
        """`ServeSubcommand.validate` and the check that `setup_server` makes before it opens the port.

        A chat template given as a path is a file of the image: it is not looked for here. Plugins are not
        loaded; with one, the names it may bring are not checked.
        """
        if args.chat_template and not set(args.chat_template) & set("{}\n"):
            args.chat_template = None
        self.serve.validate(args)
        if not args.tool_parser_plugin and not args.reasoning_parser_plugin:
            validate_api_server_args(args)

    def _engine_checks(self, args: Namespace) -> None:
        """What `AsyncEngineArgs.create_engine_config` checks without the model.

        Its classes take the whole model along, so their fields are validated one by one, each by its own
        declaration.
        """
        AsyncEngineArgs.from_cli_args(args)
        if not args.reasoning_parser_plugin:
            ParserManager.get_reasoning_parser(args.reasoning_parser)
        if args.quantization is not None and args.quantization not in quantization.QUANTIZATION_METHODS:
            raise ValueError(f"Unknown quantization method: {args.quantization}")
        known = getattr(vllm.config.cache, "is_known_kv_cache_dtype", None)  # from 0.33 on it is no choice of argparse
        if known and not known(args.kv_cache_dtype):  # CacheConfig._validate_cache_dtype
            raise ValueError(f"Invalid kv_cache_dtype: {args.kv_cache_dtype!r}")
        deprecated = args.quantization in quantization.DEPRECATED_QUANTIZATION_METHODS
        if deprecated and not args.allow_deprecated_quantization:  # ModelConfig._verify_quantization
            raise ValueError(f"The quantization method {args.quantization} is deprecated")
        vllm.config.MultiModalConfig(limit_per_prompt=args.limit_mm_per_prompt)
        if args.speculative_config is not None:
            _only_known_keys(args.speculative_config)
        for dest, group in self.groups.items():
            field = getattr(getattr(vllm.config, group, None), "__pydantic_fields__", {}).get(dest)
            value = getattr(args, dest, None)
            if field is not None and value is not None and (field.metadata or dest in self.json_fields):
                declared: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
                try:
                    TypeAdapter(declared).validate_python(value)
                except ValidationError as refused:
                    raise ValueError(f"{group}.{dest}: {refused.errors()[0]['msg']}") from None


def _only_known_keys(given: dict[str, Any]) -> None:
    """Refuse the keys `SpeculativeConfig` refuses.

    The class would go on to fetch the draft model; a key of ours makes it always stop at its keys.
    """
    try:
        SpeculativeConfig(**given, ojai_stop_here=True)
    except ValidationError as refused:
        for error in refused.errors():
            if error["loc"][-1] != "ojai_stop_here":
                raise ValueError(f"SpeculativeConfig.{error['loc'][-1]}: {error['msg']}") from None


def _error_line(text: str) -> str:
    """The line argparse ends with, without what a multi-line message adds."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else "")


def _said(failed: Exception) -> str:
    text = failed.errors()[0]["msg"] if isinstance(failed, ValidationError) else str(failed).strip()
    return f"{type(failed).__name__}: {text.splitlines()[0] if text else ''}"
