#!/bin/sh
# Run by mmdebstrap as its customize hook: ROOT is the new system, a container's; GUEST this folder.
# The same guest as build.sh makes for the virtual machine, without what only a machine has: kernels, boot loader,
# disk, the silicon's stand-ins.
set -eu
ROOT=$1 GUEST=$2
# shellcheck source=lab/guest/common.sh
. "$GUEST/common.sh"

configuration
rm -r "$ROOT/etc/fstab" "$ROOT/etc/default/grub" "$ROOT/etc/initramfs-tools"
login_user
units
# Kernel parameters in a container are those of the machine that runs it.
in_guest systemctl mask systemd-sysctl.service
engine
in_guest apt-get -q update
recommends_on
preseed
for_mmdebstrap
