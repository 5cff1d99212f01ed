#!/bin/sh
# Makes the virtual environment in $1 (default .venv) with the pinned packages. Safe to run again; quick when done.
# On a fresh Debian or Ubuntu the module venv is a package of its own: it is installed, as root or by sudo.
set -eu
venv=${1:-.venv}
stamp=$venv/.ojai-ready
if [ -e "$stamp" ] && [ ! requirements.txt -nt "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ]; then exit 0; fi

python=
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "setup: found no Python 3.11 or newer; wanted one as python3. On Debian 12 or Ubuntu 24.04: apt install python3" >&2
    exit 1
fi

if [ ! -x "$venv/bin/pip" ]; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        if ! command -v apt-get >/dev/null || ! command -v "${sudo:-env}" >/dev/null; then
            echo "setup: $python has no module venv, and there is no apt-get or no sudo here: install" \
                "python$version-venv and ca-certificates as root" >&2
            exit 1
        fi
        echo "setup: installing python$version-venv" >&2
        $sudo apt-get update -q >&2
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            "python$version-venv" ca-certificates >&2
    fi
    "$python" -m venv "$venv"
fi
echo "setup: installing the pinned packages into $venv" >&2
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
touch "$stamp"
