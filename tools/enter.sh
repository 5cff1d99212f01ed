#!/bin/sh
# Run by tools/fresh.py in new mount and process namespaces: makes $1 the root directory, and there the target $2.
# It is the namespace's first process, so it stays and collects what others leave.
set -eu
mount --bind "$1" "$1"
cd "$1"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount --move . /
chroot . make -C /root/ojai "$2" || exit
