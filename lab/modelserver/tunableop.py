"""PyTorch TunableOp's results file: written when the engine exits, read when tuning is off.

The real file holds GEMM solutions and their times. The stand-in has none: it writes the header and one line
that says so, which is enough to rehearse what keeps or loses the file.
"""

from __future__ import annotations

from pathlib import Path

from . import NOTICE
from .environment import Environment
from .logs import info, warning

ORDINAL = 0
"""The GPU's number, which PyTorch puts into the file's name."""


def enabled(environment: Environment) -> bool:
    """Whether TunableOp is on (PYTORCH_TUNABLEOP_ENABLED, off by default)."""
    return environment.flag("PYTORCH_TUNABLEOP_ENABLED")


def tuning(environment: Environment) -> bool:
    """Whether it tunes, and so writes (PYTORCH_TUNABLEOP_TUNING, on by default once enabled)."""
    expected = environment.variables.get("PYTORCH_TUNABLEOP_TUNING", "1").strip()
    return enabled(environment) and expected not in ("", "0")


def results_file(environment: Environment) -> Path:
    """Return the file's name with the GPU's ordinal: in the place of %d, else before the extension."""
    name = environment.variables.get("PYTORCH_TUNABLEOP_FILENAME") or "tunableop_results.csv"
    if "%d" in name:
        return Path(name.replace("%d", str(ORDINAL)))
    path = Path(name)
    return path.with_name(f"{path.stem}{ORDINAL}{path.suffix}")


def validators(environment: Environment) -> list[str]:
    """Return the header: results made by another build are not used."""
    return [
        f"Validator,PT_VERSION,ojai-lab-stand-in-{environment.build}",
        "Validator,ROCM_VERSION,none",
        "Validator,HIPBLASLT_VERSION,none",
        "Validator,GCN_ARCH_NAME,gfx1150",
        "Validator,ROCBLAS_VERSION,none",
    ]


def read(environment: Environment) -> int:
    """Read the file if TunableOp is on and the file is there; return how many results are used."""
    if not enabled(environment):
        return 0
    path = results_file(environment)
    if not path.exists():
        info("Tunable.cpp", f"TunableOp: no results at {path}")
        return 0
    lines = path.read_text(encoding="utf-8").splitlines()
    if [line for line in lines if line.startswith("Validator,")] != validators(environment):
        warning("Tunable.cpp", f"TunableOp: results validator check failed: {path} is of another build, not used")
        return 0
    results = sum(1 for line in lines if line and not line.startswith(("Validator,", "#")))
    info("Tunable.cpp", f"TunableOp: read {results} result(s) from {path}")
    return results


def write_at_exit(environment: Environment) -> None:
    """Write the results if tuning is on; a folder that is not there is reported, not made (as in PyTorch)."""
    if not tuning(environment):
        return
    path = results_file(environment)
    result = "GemmTunableOp_StandIn,none,Default,0"
    try:
        path.write_text("\n".join([*validators(environment), result]) + "\n", encoding="utf-8")
    except OSError as failed:
        warning("Tunable.cpp", f"TunableOp: could not write {path}: {failed.strerror}")
    else:
        info("Tunable.cpp", f"TunableOp: wrote {path} ({NOTICE})")
