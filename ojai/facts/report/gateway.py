"""What the gateway finds on a host: an nginx of the owner's, certificates, services that anybody reaches today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ojai.facts.ledger import OwnUnits

SCRIPT = r"""
[ ! -x /usr/sbin/nginx ] || say nginx there
! grep -qsx nginx /var/lib/ojai/added/packages || say nginx ours
[ ! -e /usr/lib/nginx/modules/ngx_http_js_module.so ] || say nginx module
set -- %CERTIFICATES%
for file; do [ -s "$file" ] || say missing_certificate "$file"; done
if [ $# = 2 ] && [ -s "$1" ] && [ -s "$2" ] && command -v openssl >/dev/null; then
  of_certificate=$(openssl x509 -in "$1" -noout -pubkey 2>/dev/null)
  [ -n "$of_certificate" ] || say bad_certificate "no certificate in $1"
  [ "$of_certificate" = "$(openssl pkey -in "$2" -passin pass: -pubout 2>/dev/null)" ] ||
    say bad_certificate "no key of that certificate in $2"
  begin=$(date -d "$(openssl x509 -in "$1" -noout -startdate 2>/dev/null | cut -d= -f2)" +%s 2>/dev/null)
  [ "${begin:-0}" -le "$(date +%s)" ] || say bad_certificate "a certificate that is not valid yet in $1"
  openssl x509 -in "$1" -noout -checkend 0 >/dev/null 2>&1 || say bad_certificate "a certificate that has ended in $1"
fi
{ %OWN_UNITS%; } | while IFS= read -r unit; do
  # As the deploy writes it: an option with its value on a line of its own.
  [ ! -e "/etc/systemd/system/$unit" ] || sed 's/\\$//' "/etc/systemd/system/$unit" | tr '\n' ' ' |
    sed -n 's/.* ExecStart=.* --host  *\([^ ]*\)  *--port  *\([0-9]*\) .*/\1 \2\n/p' | while read -r address port; do
      case $address in 127.* | ::1) ;; ?*) say open_service "${unit%.service} $port";; esac
    done
done
""".replace("%OWN_UNITS%", OwnUnits().command("/var/lib/ojai/added"))


@dataclass(frozen=True)
class GatewayReport:
    """The answers.

    + nginx: there is one
    + ours: this project installed it
    + module: nginx's module for JavaScript is there
    + missing: files of the owner's certificate that are not there
    + bad: what is wrong with those that are
    + open: services of ours that listen on an address of the network, by name, each with its port
    """

    nginx: bool = False
    ours: bool = False
    module: bool = False
    missing: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    open: tuple[tuple[str, int], ...] = ()

    @property
    def of_owner(self) -> bool:
        """Whether there is an nginx of the owner's."""
        return self.nginx and not self.ours


def words(certificates: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What the script is to look for."""
    return {"%CERTIFICATES%": tuple(certificates)}


def read(every: Mapping[str, Sequence[str]]) -> GatewayReport:
    """Read the answers."""
    nginx = every.get("nginx", ())
    services = (entry.split(" ") for entry in every.get("open_service", ()))
    return GatewayReport(
        nginx="there" in nginx,
        ours="ours" in nginx,
        module="module" in nginx,
        missing=tuple(every.get("missing_certificate", ())),
        bad=tuple(every.get("bad_certificate", ())),
        open=tuple((name, int(port)) for name, port in services),
    )
