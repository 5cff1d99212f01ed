#!/bin/sh
# Made by ojai. The gateway's certificate, signed by a small authority of this host. Never leaves the host: the keys.
#
#   renew check NAME...     prints why the certificate has to be made anew; nothing if it is right
#   renew make NAME...      makes what has to be made
#
# A certificate is for the names given here, and for the names and addresses that the host has. Those of Docker's
# bridges are not among them. It is renewed 60 days before its end; the authority, whose certificate clients have to
# trust anew, a year before its own, which is ten years after its beginning.
set -eu
umask 077
folder=/etc/ojai/gateway
mode=$1
shift
day=86400

names() {
  printf '%s\n' "$@" localhost 127.0.0.1 "$(uname -n)" "$(uname -n | cut -d. -f1).local" "$(timeout 2 hostname -f 2>/dev/null || true)"
  ip -4 -o addr show scope global 2>/dev/null | awk '$2 !~ /^(docker|br-|veth|virbr|podman|cni)/ { sub("/.*", "", $4); print $4 }'
}

wanted() {
  names "$@" | sed 's/\.$//' | awk 'NF && !seen[tolower($0)]++' | while IFS= read -r name; do
    case $name in
      *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) printf 'IP:%s\n' "$name" ;;
      *) printf 'DNS:%s\n' "$name" ;;
    esac
  done
}

ends_within() { ! openssl x509 -in "$1" -noout -checkend "$(($2 * day))" >/dev/null 2>&1; }

belong() {
  [ -s "$1.crt" ] && [ -s "$1.key" ] &&
    [ "$(openssl x509 -in "$1.crt" -noout -pubkey 2>/dev/null)" = "$(openssl pkey -in "$1.key" -pubout 2>/dev/null)" ]
}

authority_due() {
  if ! belong "$folder/ca"; then echo "there is no local authority"
  elif ends_within "$folder/ca.crt" 365; then echo "the local authority ends within a year"
  fi
}

certificate_due() {
  if ! belong "$folder/server"; then echo "there is no certificate"
  elif ! openssl verify -CAfile "$folder/ca.crt" "$folder/server.crt" >/dev/null 2>&1; then
    echo "the local authority did not sign it, or it has ended"
  elif ends_within "$folder/server.crt" 60; then echo "it ends within 60 days"
  else
    for name in $(wanted "$@"); do
      case $name in
        IP:*) option=-checkip ;;
        *) option=-checkhost ;;
      esac
      openssl x509 -in "$folder/server.crt" -noout "$option" "${name#*:}" | grep -q 'does match' ||
        { echo "it is not for ${name#*:}"; return 0; }
    done
  fi
}

new_key() { openssl ecparam -genkey -name prime256v1 -noout -out "$1"; }

if [ "$mode" = check ]; then
  due=$(authority_due)
  [ -n "$due" ] || due=$(certificate_due "$@")
  [ -z "$due" ] || printf '%s\n' "$due"
  exit 0
fi

mkdir -p "$folder"
work=$(mktemp -d "$folder/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
host=$(uname -n | cut -c1-40)
if [ -n "$(authority_due)" ]; then
  new_key "$work/ca.key"
  openssl req -x509 -new -sha256 -days 3650 -key "$work/ca.key" -out "$work/ca.crt" -subj "/CN=ojai gateway of $host" \
    -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign'
  chmod 644 "$work/ca.crt"
  sync "$work/ca.key" "$work/ca.crt"
  mv "$work/ca.key" "$folder/ca.key"
  mv "$work/ca.crt" "$folder/ca.crt"
fi
if [ -n "$(certificate_due "$@")" ]; then
  new_key "$work/server.key"
  cat > "$work/extensions" <<end
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $(wanted "$@" | paste -sd ,)
end
  openssl req -new -sha256 -key "$work/server.key" -subj "/CN=$host" -out "$work/server.csr"
  openssl x509 -req -sha256 -days 397 -in "$work/server.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
    -set_serial "0x$(openssl rand -hex 16)" -extfile "$work/extensions" -out "$work/server.crt" 2>/dev/null
  sync "$work/server.key" "$work/server.crt"
  # Should the power fail between the two, they do not belong together, and are made anew.
  mv "$work/server.key" "$folder/server.key"
  mv "$work/server.crt" "$folder/server.crt"
  sync "$folder"
  echo renewed
fi
