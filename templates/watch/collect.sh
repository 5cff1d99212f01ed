#!/bin/sh
# Made by ojai. What node exporter does not know of this host, as a text in its folder for such texts.
#
#   collect FOLDER [CERTIFICATE…]
#
# Times are seconds since 1970. What a host does not have is left out.
set -eu
export LC_ALL=C
folder=$1
shift
work=$(mktemp -d)
new=$(mktemp "$folder/ojai.XXXXXX")
trap 'rm -rf "$work" "$new"' EXIT

number() { # NAME LABELS VALUE
  [ -z "$3" ] || printf 'ojai_%s%s %s\n' "$1" "$2" "$3"
}

certificates() {
  for file; do
    [ -s "$file" ] || continue
    end=$(openssl x509 -in "$file" -noout -enddate 2>/dev/null | cut -d= -f2)
    number certificate_end_timestamp_seconds "{file=\"$file\"}" "$(date -d "${end:-none}" +%s 2>/dev/null || true)"
  done
}

# Keys of clients that were replaced, and the keys that sign the archives of packages.
keys() {
  for file in /etc/ojai/gateway/keys/*.old.map; do
    [ -e "$file" ] || continue
    name=${file##*/}
    number key_end_timestamp_seconds "{key=\"${name%.old.map}\"}" "$(sed -n 's/.*@\([0-9]*\)";$/\1/p' "$file")"
  done
  for file in /etc/apt/keyrings/ojai-*.gpg; do
    if [ ! -e "$file" ] || ! command -v gpg >/dev/null; then continue; fi
    end=$(GNUPGHOME=$work gpg --batch --with-colons --show-keys "$file" 2>/dev/null | awk -F: '$1 == "pub" {print $7; exit}')
    number key_end_timestamp_seconds "{key=\"${file##*/}\"}" "$end"
  done
}

release() {
  kept=$(sed -n 's/.*"kept": *"\([^"]*\)".*/\1/p' /var/lib/ojai/releases/healthy/release.json 2>/dev/null | head -n 1)
  number release_timestamp_seconds "" "$(date -d "${kept:-none}" +%s 2>/dev/null || true)"
  # A deploy empties the file of its lock when it ends; one that died does not.
  held=0
  [ ! -s /run/ojai-deploy.lock ] || held=$(($(date +%s) - $(stat -c %Y /run/ojai-deploy.lock)))
  number deploy_lock_held_seconds "" "$held"
}

# shellcheck disable=SC2288  # the function `tuning` is put in here
%TUNING%
tunableop() {
  for unit in /etc/systemd/system/*.service; do
    state=$(tuning "$unit")
    name=${unit##*/}
    for each in kept stale missing tunes; do
      value=0
      [ "$each" != "${state%% *}" ] || value=1
      [ -z "$state" ] || number tunableop "{service=\"${name%.service}\",state=\"$each\"}" "$value"
    done
  done
}

# struct gpu_metrics_v3_0 of the kernel: how long each limit held the chip back, a share of the time by the firmware's
# own clock. Another version of it is left alone.
throttling() {
  for card in /sys/class/drm/card*/device; do
    [ "$(od -An -tu2 -N2 "$card/gpu_metrics" 2>/dev/null | tr -d ' ')" = 264 ] || continue
    [ "$(od -An -tu1 -j2 -N2 "$card/gpu_metrics" | tr -s ' ')" = " 3 0" ] || continue
    card_name=${card%/device} card_name=${card_name##*/}
    # shellcheck disable=SC2046
    set -- $(od -An -tu4 -v -w28 -j228 -N28 "$card/gpu_metrics")
    for limit in prochot spl fppt sppt thm_core thm_gfx thm_soc; do
      [ "${1:-4294967295}" = 4294967295 ] ||
        number gpu_throttle_residency_total "{card=\"$card_name\",limit=\"$limit\"}" "$1"
      shift
    done
  done
}

{
  cat /etc/ojai/watch/said.prom
  [ ! -e /var/lib/ojai/watch/verify.prom ] || cat /var/lib/ojai/watch/verify.prom
  certificates "$@"
  keys
  release
  tunableop
  throttling
} >"$new"
chmod 644 "$new"
mv "$new" "$folder/ojai.prom"
