"""What removal is told by the host's own notes."""


def test_only_root_can_change_the_notes(mini):
    """What they name, removal takes away as root."""
    found = mini.text("find /var/lib/ojai -maxdepth 2 ! -type l '(' ! -user root -o -perm /022 ')'")
    assert not found, f"others can change {', '.join(found.split())}"
