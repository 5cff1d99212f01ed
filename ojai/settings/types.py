"""Types of single values that several settings have."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from ojai.schema.expected import Expected
from ojai.sizes import Bytes, parse_memory

Fingerprint = Annotated[
    str,
    Field(pattern=r"^([0-9A-Fa-f]{40}|([0-9A-Fa-f]{4} +){9}[0-9A-Fa-f]{4})$"),
    Expected("a key's whole fingerprint: 40 hexadecimal digits, spaces between groups of four allowed"),
]
Url = Annotated[
    str,
    Field(pattern=r"^https?://[^\s\"'@/]+(/[^\s\"']*[^\s\"'/])?$"),
    Expected("an address with http:// or https://, without a slash at its end, and without user and password"),
]
UnixName = Annotated[
    str,
    Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$"),
    Expected("a Linux account: small letters, digits, - and _, at most 32, no digit first"),
]
#: Who it is, the host says (``getent``). As a directory server names accounts too: jane.doe, Ada, CORP\\ada, ada@corp.
Account = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,255}$"),
    Expected("an account of the host: letters, digits, ., _, - and, for one of a domain, @ or \\"),
]
Package = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$"),
    Expected("a Debian package's name: small letters, digits, +, - and ."),
]
AbsolutePath = Annotated[
    str,
    Field(pattern=r"^/[A-Za-z0-9._/-]*[A-Za-z0-9._-]$"),
    Expected("an absolute path of letters, digits, ., _ and -, without a slash at its end"),
]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$"), Expected("sha256: and 64 hexadecimal digits")]
Amount = Annotated[Bytes, Expected("an amount of memory or disk such as 64GiB, or a number of bytes")]
Memory = Annotated[int, BeforeValidator(parse_memory), Expected("an amount of memory such as 64GiB, 1 GiB at least")]
IpAddress = Annotated[str, AfterValidator(lambda value: str(ipaddress.ip_address(value))), Expected("an IP address")]


def _network(value: str) -> str:
    found = ipaddress.ip_network(value)
    mapped = isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped
    if "%" in value or mapped:
        raise ValueError("no packet comes from such an address")
    return str(found)


Network = Annotated[
    str,
    AfterValidator(_network),
    Expected("an IP address, or a network such as 192.0.2.0/24"),
]
#: A host name or an address, as a certificate has it.
ServerName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$"),
    Expected("a host name, or an IP address"),
]
KeyName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$"),
    Expected("small letters, digits and -, at most 32"),
]
Occasion = Annotated[
    str, Field(pattern=r"^[!-~]{1,64}$"), Expected("a word of your own in quotes, such as a date, at most 64 letters")
]
KernelParameter = Annotated[
    str,
    Field(pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_/-]+)+$"),
    Expected("a kernel parameter with its dots, such as vm.swappiness"),
]
Registry = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?$"),
    Expected("a registry as images name it, such as registry.example.net:5000; docker.io for Docker Hub"),
]
#: Without a user: the address is on the host in files that everybody can read, and in the containers.
ProxyUrl = Annotated[
    str,
    # As desktops write it, with a slash at its end.
    BeforeValidator(lambda value: value.removesuffix("/") if isinstance(value, str) else value),
    Field(pattern=r"^https?://[^\s\"'@/]+$"),
    Expected("http:// or https://, a host and a port, without user and password (use a relay that adds them)"),
]
NoProxy = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9.*:/\[\]-]+$"),
    Expected("a host, a domain with a dot before it, or an address"),
]
