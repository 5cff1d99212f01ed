"""The certificate and the keys, made by the programs that run on a host, with the host's own openssl."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from ojai import gateway
from ojai.facts.gateway import Access, CertificateDue, GatewayAccess, GatewayKeys, Keys
from ojai.operations.gateway import _MAKE_KEYS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "renew").write_text(gateway.renewal_script().replace(gateway.FOLDER, str(tmp_path)))
    return tmp_path


def sh(script: str, text: str | None = None) -> str:
    done = subprocess.run(["sh", "-c", script], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(folder: Path, *names: str) -> str:
    return sh(f"sh {folder}/renew make {' '.join(names)}")


def due(folder: Path, *names: str) -> tuple[str, ...]:
    """As the deploy asks a host."""
    fact = CertificateDue()
    return fact.process(sh(fact.command(names=names).replace(gateway.FOLDER, str(folder))).splitlines())


def openssl(*words: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout


def names_of(folder: Path) -> str:
    return openssl("x509", "-in", folder / "server.crt", "-noout", "-ext", "subjectAltName")


def test_it_is_made_once_and_is_right(folder: Path) -> None:
    assert due(folder, "mini") == ("there is no local authority",)
    assert make(folder, "mini", "192.0.2.11", "2001:db8::1") == "renewed\n"
    assert due(folder, "mini", "192.0.2.11", "2001:db8::1") == ()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert make(folder, "mini", "192.0.2.11", "2001:db8::1") == ""
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert set(before) == {"renew", "ca.crt", "ca.key", "server.crt", "server.key"}
    found = names_of(folder)
    for name in ("DNS:mini", "IP Address:192.0.2.11", "IP Address:2001:DB8:0:0:0:0:0:1", "DNS:localhost"):
        assert name in found
    for name in ("ca.key", "server.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert openssl("verify", "-CAfile", folder / "ca.crt", "-purpose", "sslserver", folder / "server.crt")


def test_the_authority_can_sign_no_other_authority_and_the_server_nothing(folder: Path) -> None:
    make(folder, "mini")
    assert "CA:TRUE, pathlen:0" in openssl("x509", "-in", folder / "ca.crt", "-noout", "-text")
    text = openssl("x509", "-in", folder / "server.crt", "-noout", "-text")
    assert "CA:FALSE" in text and "TLS Web Server Authentication" in text


def test_a_new_name_makes_a_new_certificate_of_the_same_authority(folder: Path) -> None:
    make(folder, "mini")
    authority = (folder / "ca.crt").read_bytes()
    assert due(folder, "mini", "ai.example.net") == ("it is not for ai.example.net",)
    assert due(folder, "mini", "192.0.2.12") == ("it is not for 192.0.2.12",)
    make(folder, "mini", "ai.example.net", "192.0.2.12")
    assert due(folder, "mini", "ai.example.net", "192.0.2.12") == ()
    assert due(folder, "mini") == (), "one name more is no reason"
    assert (folder / "ca.crt").read_bytes() == authority


def resigned(folder: Path, days: int) -> None:
    """The certificate anew, with so many days left."""
    key, request = folder / "server.key", folder / "x.csr"
    openssl("req", "-new", "-key", key, "-subj", "/CN=mini", "-out", request)
    (folder / "x.ext").write_text("subjectAltName = DNS:mini")
    by = ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial", "-extfile", folder / "x.ext")
    openssl("x509", "-req", "-in", request, *by, "-days", str(days), "-out", folder / "server.crt")


def test_it_is_renewed_before_it_ends(folder: Path) -> None:
    make(folder, "mini")
    authority = (folder / "ca.crt").read_bytes()
    resigned(folder, 61)
    assert "ends" not in str(due(folder, "mini"))
    resigned(folder, 59)
    assert due(folder, "mini") == ("it ends within 60 days",)
    make(folder, "mini")
    assert due(folder, "mini") == ()
    assert (folder / "ca.crt").read_bytes() == authority, "clients trust what they trusted"
    text = openssl("x509", "-in", folder / "server.crt", "-noout", "-checkend", str(390 * 86400))
    assert "will not expire" in text


@pytest.mark.parametrize("name", ["server.crt", "server.key", "ca.crt", "ca.key"])
@pytest.mark.parametrize("damage", ["gone", "empty", "nonsense", "another's"])
def test_damage_is_found_and_mended(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, name: str, damage: str
) -> None:
    make(folder, "mini")
    place = folder / name
    if damage == "gone":
        place.unlink()
    elif damage == "another's":
        other = tmp_path_factory.mktemp("other")
        (other / "renew").write_text(gateway.renewal_script().replace(gateway.FOLDER, str(other)))
        make(other, "mini")
        place.write_bytes((other / name).read_bytes())
    else:
        place.write_text("" if damage == "empty" else "nonsense")
    assert due(folder, "mini") != ()
    make(folder, "mini")
    assert due(folder, "mini") == ()


def test_a_cut_in_the_middle_leaves_nothing_behind(folder: Path) -> None:
    """Whatever was made before the cut: the next run makes the rest."""
    for tool in ("mv", "sync", "chmod", "paste"):
        bad = folder / "bin"
        bad.mkdir(exist_ok=True)
        (bad / tool).write_text("#!/bin/sh\nexit 1\n")
        (bad / tool).chmod(0o755)
        environment = {**os.environ, "PATH": f"{bad}:{os.environ['PATH']}"}
        subprocess.run(["sh", folder / "renew", "make", "mini"], env=environment, capture_output=True, check=False)
        (bad / tool).unlink()
        assert not list(folder.glob("new.*"))
    make(folder, "mini")
    assert due(folder, "mini") == ()


# -- keys


def make_keys(folder: Path, *names: str, overlap: int = 0) -> None:
    """Names, each with the sum of a key from elsewhere and a text for its renewal after it, if it has them."""
    lines = "".join(f"{name if ' ' in name else f'{name} - '}\n" for name in names)
    sh(f"folder={folder}/keys overlap={overlap}\n{_MAKE_KEYS}", text=lines)


def found_keys(folder: Path) -> Keys:
    fact = GatewayKeys()
    return fact.process(sh(fact.command().replace(gateway.KEYS, f"{folder}/keys")).splitlines())


def known(folder: Path) -> dict[str, bool]:
    return {name: key.right for name, key in found_keys(folder).keys.items()}


def key(folder: Path, name: str) -> str:
    return (folder / "keys" / f"{name}.key").read_text().strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
def test_keys_are_made_once_closed_and_known_by_their_sums(folder: Path) -> None:
    assert known(folder) == {}
    make_keys(folder, "laptop", "ci")
    assert known(folder) == {"laptop": True, "ci": True}
    first = key(folder, "laptop")
    assert first.startswith("ojai-") and len(first) == 48 and first != key(folder, "ci")
    total = hashlib.sha256(first.encode()).hexdigest()
    assert (folder / "keys/laptop.map").read_text() == f'"{total}" "laptop";\n'
    make_keys(folder, "laptop")
    assert key(folder, "laptop") == first
    assert {file.stat().st_mode & 0o777 for file in (folder / "keys").iterdir()} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
def test_a_key_may_be_deleted_or_be_one_s_own(folder: Path) -> None:
    make_keys(folder, "laptop", "ci")
    (folder / "keys/laptop.key").unlink()
    assert known(folder) == {"laptop": True, "ci": True}, "its sum is enough"
    (folder / "keys/ci.key").write_text("ojai-my-own-key-of-enough-letters\n")
    assert known(folder) == {"laptop": True, "ci": False}
    make_keys(folder, "ci")
    assert known(folder) == {"laptop": True, "ci": True}
    assert key(folder, "ci") == "ojai-my-own-key-of-enough-letters"
    (folder / "keys/ci.map").chmod(0o644)
    assert known(folder)["ci"] is False


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
def test_keys_are_told_only_if_that_is_asked_for(folder: Path) -> None:
    make(folder, "mini")
    make_keys(folder, "laptop", "ci")
    (folder / "keys/ci.key").unlink()

    def access(show: bool) -> Access:
        fact = GatewayAccess()
        text = sh(fact.command(show=show).replace(gateway.FOLDER, str(folder)))
        assert key(folder, "laptop") not in text, "in base64 at least"
        return fact.process(text.splitlines())

    authority = (folder / "ca.crt").read_text()
    assert access(False) == Access(authority, {"ci": None, "laptop": None})
    assert access(True) == Access(authority, {"ci": None, "laptop": key(folder, "laptop")})


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
def test_a_key_is_made_anew_when_its_text_changes_and_the_old_one_ends(folder: Path) -> None:
    make_keys(folder, "laptop")
    first = key(folder, "laptop")
    make_keys(folder, "laptop - 2026-12-01", overlap=3600)
    second = key(folder, "laptop")
    assert second != first
    found = found_keys(folder)
    assert (found.keys["laptop"].right, found.keys["laptop"].renewed, found.ended) == (True, "2026-12-01", ())
    old = (folder / "keys/laptop.old.map").read_text()
    match = re.fullmatch(r'"([0-9a-f]{64})" "laptop@([0-9]+)";\n', old)
    assert match and match[1] == hashlib.sha256(first.encode()).hexdigest()
    assert abs(int(match[2]) - 3600 - time.time()) < 60
    make_keys(folder, "laptop - 2026-12-01", overlap=3600)
    assert key(folder, "laptop") == second and (folder / "keys/laptop.old.map").read_text() == old
    (folder / "keys/laptop.old.map").write_text(old.replace(match[2], "1700000000"))
    assert found_keys(folder).ended == ("laptop",)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
def test_of_a_key_from_elsewhere_the_host_has_the_sum_alone(folder: Path) -> None:
    make_keys(folder, "laptop")
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in ("one", "two")]
    make_keys(folder, f"laptop {sums[0]} ")
    assert not (folder / "keys/laptop.key").exists() and not (folder / "keys/laptop.old.map").exists(), "no overlap"
    assert (found_keys(folder).keys["laptop"].right, found_keys(folder).keys["laptop"].sum) == (True, sums[0])
    make_keys(folder, f"laptop {sums[1]} ", overlap=60)
    assert found_keys(folder).keys["laptop"].sum == sums[1]
    assert sums[0] in (folder / "keys/laptop.old.map").read_text()
    # Who has taken what leaked out of use does not want it back for the overlap.
    make_keys(folder, f"laptop {sums[0]} ")
    assert not (folder / "keys/laptop.old.map").exists()
