import pytest
from hypothesis import given
from hypothesis import strategies as st

from ojai import profiles
from ojai.schema.nearest import nearest

COMMANDS = ["budget", "lab", "plan", "profiles", "rollback", "verify"]


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("verfy", COMMANDS, "verify"),
        ("roll", COMMANDS, "rollback"),
        ("gemma4-26b", profiles.names(), "gemma-4-26b-a4b"),
        ("26B", profiles.names(), "gemma-4-26b-a4b"),
        ("e4b_awq", profiles.names(), "gemma-4-e4b-awq"),
        ("gemma-4-e4b-qat", profiles.names(), "gemma-4-e4b-qat-w4a16"),
        ("max_model_length", ["max_model_len", "max_num_seqs"], "max_model_len"),
        ("kernel-reboot", ["kernel_reboot", "kernel_reboot_timeout"], "kernel_reboot"),
        ("llama", profiles.names(), None),
        ("temperature", ["chat_template", "tool_call_parser"], None),
        ("x", ["max_model_len"], None),
        ("", COMMANDS, None),
    ],
)
def test_what_was_probably_meant(name: str, known: list[str], near: str | None) -> None:
    assert nearest(name, known) == near


def test_a_part_of_a_name_is_not_near_where_names_are_free() -> None:
    assert nearest("_env", ["_preserve_sudo_env"]) == "_preserve_sudo_env"
    assert nearest("_env", ["_preserve_sudo_env"], parts=False) is None


@given(st.sampled_from(profiles.names()))
def test_a_known_name_is_nearest_to_itself(name: str) -> None:
    assert nearest(name, profiles.names()) == name
    assert nearest(name.upper().replace("-", "_"), profiles.names()) == name
