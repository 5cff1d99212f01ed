"""Signing keys that have expired: fetched again, and told apart from those that only the host has in an old form."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from real_host import RealHost

from ojai.facts.apt import KeyringFingerprints
from ojai.operations import apt

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("curl"), reason="fetches a key by curl and gives it to root"
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """One key, as it was until 2021, as it was issued anew like AMD's, and with a subkey for signing that has expired.

    ``(old, new, subkey, fingerprint)``
    """
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]

    def run(*words: str) -> str:
        return subprocess.run([*gpg, *words], check=True, capture_output=True, text=True).stdout

    place = tmp_path_factory.mktemp("published")
    try:
        run("--faked-system-time", "20200101T000000", "--quick-gen-key", "archive", "ed25519", "sign", "1y")
        listing = run("--with-colons", "-k").splitlines()
        fingerprint = next(line.split(":")[9] for line in listing if line.startswith("fpr"))
        (place / "old").write_text(run("--armor", "--export"))
        run("--quick-set-expire", fingerprint, "0")
        (place / "new").write_text(run("--armor", "--export"))
        run("--faked-system-time", "20200102T000000", "--quick-add-key", fingerprint, "ed25519", "sign", "1y")
        (place / "subkey").write_text(run("--armor", "--export"))
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    return place / "old", place / "new", place / "subkey", fingerprint


def test_an_expired_key_is_replaced_by_the_one_that_was_issued_anew(keys, tmp_path):
    """Before: the fingerprint was the expected one, so that nothing was fetched, and apt said EXPKEYSIG for ever."""
    old, new, _, fingerprint = keys
    host, ring = RealHost(), tmp_path / "ring.gpg"
    subprocess.run(["gpg", "--dearmor", "-o", ring, old], check=True)
    assert host.get_fact(KeyringFingerprints, path=str(ring)) == ()
    words = {"path": str(ring), "url": f"file://{new}", "fingerprint": fingerprint}
    assert host.apply(apt.keyring, **words)
    assert host.get_fact(KeyringFingerprints, path=str(ring)) == (fingerprint,)
    assert not host.apply(apt.keyring, **words)


@pytest.mark.parametrize("published", ["old", "subkey"])
def test_a_key_that_its_owner_has_not_issued_anew_is_refused_and_not_installed(keys, tmp_path, published):
    """Whatever in it has expired: gpg signs with a subkey where there is one. Else each run would fetch it again."""
    old, _, subkey, fingerprint = keys
    found = {"old": old, "subkey": subkey}[published]
    host, ring = RealHost(), tmp_path / "ring.gpg"
    with pytest.raises(AssertionError):
        host.apply(apt.keyring, path=str(ring), url=f"file://{found}", fingerprint=fingerprint)
    assert any("has expired, or was revoked" in line for line in host.errors)
    assert not ring.exists()
