"""Which digest a registry has under a tag, and which commit and files a hub has under a name. Runs on the host.

The host asks, because it is the one that will pull: its mirrors, its proxy, its network. The request is JSON in the one
argument, the answer JSON on standard output. Nothing is written.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT = 20

#: Docker Hub's own address, and the forms of a manifest; a list comes first, as for `docker pull`.
HUB = "https://registry-1.docker.io"
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def place_of(reference: str, mirrors: list[str]) -> tuple[list[str], str, str]:
    """Where an image is: addresses of registries in the order in which Docker asks them, repository and tag."""
    name, _, tag = reference.rpartition(":")
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        if first not in ("docker.io", "index.docker.io"):
            return (
                [f"{'http' if first.partition(':')[0] in ('localhost', '127.0.0.1') else 'https'}://{first}"],
                rest,
                tag,
            )
        name = rest
    return [*(mirror.rstrip("/") for mirror in mirrors), HUB], name if "/" in name else f"library/{name}", tag


def digest(reference: str, mirrors: list[str]) -> dict[str, str]:
    """The digest of a tag, or why none was given."""
    registries, repository, tag = place_of(reference, mirrors)
    error = ""
    for registry in registries:
        url = f"{registry}/v2/{repository}/manifests/{tag}"
        try:
            found = _manifest(url)
        except (OSError, ValueError) as raised:
            error = f"{urllib.parse.urlsplit(registry).hostname}: {_why(raised)}"
            continue
        if re.fullmatch(r"sha256:[0-9a-f]{64}", found):
            return {"digest": found}
        error = f"{urllib.parse.urlsplit(registry).hostname}: no digest in its answer"
    return {"error": error}


def _manifest(url: str, token: str | None = None) -> str:
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": ", ".join(MANIFESTS)})
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return answer.headers.get("Docker-Content-Digest") or ""
    except urllib.error.HTTPError as error:
        said = error.headers.get("WWW-Authenticate") or ""
        if error.code != 401 or token or not said.lower().startswith("bearer "):
            raise
        return _manifest(url, _token(dict(re.findall(r'(\w+)="([^"]*)"', said))))


def _token(asked: dict[str, str]) -> str:
    """What a registry lets anybody read with."""
    words = urllib.parse.urlencode({name: asked[name] for name in asked.keys() & {"service", "scope"}})
    with urllib.request.urlopen(f"{asked['realm']}?{words}", timeout=TIMEOUT) as answer:
        found = json.load(answer)
    return str(found.get("token") or found["access_token"])


def model(endpoint: str, name: str, revision: str) -> dict[str, object]:
    """The commit of a model and all its files with size and hash, or why none was given."""
    words = (urllib.parse.quote(word, safe=safe) for word, safe in ((name, "/"), (revision, "")))
    url = "{}/api/models/{}/revision/{}?blobs=true".format(endpoint.rstrip("/"), *words)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            found = json.load(answer)
        files = {
            one["rfilename"]: [one.get("size") or 0, (one.get("lfs") or {}).get("sha256") or one["blobId"]]
            for one in found["siblings"]
        }
        return {"commit": found["sha"], "files": files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"error": f"{urllib.parse.urlsplit(endpoint).hostname}: {_why(error)}"}


def _why(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    reason = getattr(error, "reason", None) or error
    return " ".join(f"{type(reason).__name__}: {reason}".split())[:200]


def main(argument: str) -> None:
    """Answer one request."""
    asked = json.loads(argument)
    print(
        json.dumps(
            {
                "images": {one: digest(one, asked["mirrors"]) for one in asked["images"]},
                "models": {"@".join(one): model(asked["endpoint"], *one) for one in map(tuple, asked["models"])},
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
