# shellcheck shell=sh
# Sourced by build.sh (the virtual machine's disk) and container.sh (a container's root file system): what both have
# in common. ROOT is the new system, GUEST this folder.
: "${ROOT:?}" "${GUEST:?}" "${LAB_SUITE:?}" "${LAB_VENDOR:?}" "${LAB_PRESEED_PACKAGES:?}" "${LAB_ENGINE:?}"

say() { echo "build: $*"; }
in_guest() { chroot "$ROOT" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }

configuration() {
  say "configuration files"
  # Ubuntu needs no stand-in's name, and has habits that a guest of it is to keep.
  own=$(cat "$ROOT/etc/os-release")
  cp -R --no-preserve=ownership "$GUEST/root/." "$ROOT/"
  # Modes as the guest wants them, whatever the checkout's umask was.
  (cd "$GUEST/root" && find . -mindepth 1 -type d) | while read -r item; do chmod 0755 "$ROOT/$item"; done
  (cd "$GUEST/root" && find . -type f) | while read -r item; do chmod 0644 "$ROOT/$item"; done
  if [ "$LAB_VENDOR" = ubuntu ]; then
    printf '%s\n' "$own" > "$ROOT/etc/os-release"
    sed -i 's/ needrestart / /; s/ apparmor$//' "$ROOT/etc/apt/preferences.d/ojai-lab"
    # The login user, and how sshd lets it in, are where cloud-init writes them.
    mv "$ROOT/etc/sudoers.d/ojai-lab" "$ROOT/etc/sudoers.d/90-cloud-init-users"
    mv "$ROOT/etc/ssh/sshd_config.d/10-ojai-lab.conf" "$ROOT/etc/ssh/sshd_config.d/50-cloud-init.conf"
  fi
  chmod 0440 "$ROOT/etc/sudoers.d/"*
  rm -f "$ROOT/etc/hostname"
  : > "$ROOT/etc/machine-id"
}

login_user() {
  say "login user"
  in_guest groupadd --force --system render
  in_guest useradd --create-home --shell /bin/bash --groups sudo ojai
  install -d -m 0700 "$ROOT/home/ojai/.ssh"
  in_guest chown -R ojai:ojai /home/ojai
  rm -f "$ROOT"/etc/ssh/ssh_host_*
}

units() {
  say "units"
  in_guest systemctl enable ssh.service
  in_guest systemctl mask apt-daily.timer apt-daily-upgrade.timer man-db.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service systemd-networkd-wait-online.service fstrim.timer
  in_guest systemctl set-default multi-user.target
}

# mmdebstrap's own settings (no recommended packages), which an installed machine does not have; its own
# cleanup of them comes after this hook, and wants the file to be there.
recommends_on() { rm -f "$ROOT/etc/apt/apt.conf.d/00mmdebstrap"; }
for_mmdebstrap() { : > "$ROOT/etc/apt/apt.conf.d/00mmdebstrap"; }

ready() {
  # shellcheck disable=SC2086
  [ -z "$LAB_READY_PACKAGES" ] || in_guest apt-get -q -y --no-install-recommends install $LAB_READY_PACKAGES
}

# With the engine `containerd`: containerd's image store as if it were the engine's default. With LAB_ENGINE_SUITE Docker
# is from that suite, on the guest's own mirror; nothing else is taken of it, and its Release file may be older than it
# says.
engine() {
  [ "$LAB_ENGINE" = containerd ] || return 0
  install -d "$ROOT/etc/docker"
  echo '{"features": {"containerd-snapshotter": true}}' > "$ROOT/etc/docker/daemon.json"
  [ -n "$LAB_ENGINE_SUITE" ] || return 0
  say "Docker of $LAB_ENGINE_SUITE, with containerd's image store"
  age=check-valid-until=no
  find "$ROOT/etc/apt" -name '*.list' -exec cat {} + |
    sed -n -e "s/^deb \[\([^]]*\)\] \([^ ]*\) $LAB_SUITE main.*/deb [\1 $age] \2 $LAB_ENGINE_SUITE main/p" \
      -e "s/^deb \([^ ]*\) $LAB_SUITE main.*/deb [$age] \1 $LAB_ENGINE_SUITE main/p" \
      > "$ROOT/etc/apt/sources.list.d/ojai-lab-engine.list"
  [ -s "$ROOT/etc/apt/sources.list.d/ojai-lab-engine.list" ] || { say "no source of $LAB_SUITE to go by"; exit 1; }
  cat > "$ROOT/etc/apt/preferences.d/ojai-lab-engine" <<PIN
Package: *
Pin: release n=$LAB_ENGINE_SUITE
Pin-Priority: 100

Package: docker.io docker-cli containerd runc tini tini-static
Pin: release n=$LAB_ENGINE_SUITE
Pin-Priority: 600
PIN
}

preseed() {
  say "packages that the deploy will ask for, downloaded only"
  # Split, on purpose: a list of package names.
  # shellcheck disable=SC2086
  in_guest apt-get -q -y --download-only install $LAB_PRESEED_PACKAGES
}
