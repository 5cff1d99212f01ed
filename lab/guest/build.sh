#!/bin/sh
# Run by mmdebstrap as its customize hook: ROOT is the new system, GUEST this folder, OUT where the disk goes.
# Everything here runs natively; nothing of it runs under emulation.
set -eu
ROOT=$1 GUEST=$2 SILICON=$3 OUT=$4
: "${LAB_STOCK_SUITE:?}" "${LAB_STOCK_KERNEL:?}" "${LAB_DISK_BYTES:?}" "${LAB_FS_UUID:?}"

# shellcheck source=lab/guest/common.sh
. "$GUEST/common.sh"

configuration
sed -i "s/@FS_UUID@/$LAB_FS_UUID/" "$ROOT/etc/fstab"
install -D -m 0755 "$SILICON/ojai_lab_silicon.py" "$ROOT/usr/local/lib/ojai-lab/silicon"
install -m 0644 "$SILICON/"*.service "$ROOT/etc/systemd/system/"
chmod 0755 "$ROOT/etc/kernel/postinst.d" 2>/dev/null || true
login_user
units
in_guest systemctl enable systemd-networkd.service ojai-lab-modules.service ojai-lab-silicon.service
# Seconds of an emulated boot for nothing that a test looks at.
in_guest systemctl mask grub-common.service systemd-binfmt.service sys-kernel-debug.mount \
  sys-kernel-tracing.mount dev-hugepages.mount modprobe@efi_pstore.service modprobe@drm.service \
  modprobe@configfs.service systemd-pstore.service systemd-update-done.service ldconfig.service \
  systemd-hwdb-update.service systemd-journal-catalog-update.service

say "stock kernel of $LAB_STOCK_SUITE"
# The same mirror as the guest's own sources, another suite; only while this one package is installed.
find "$ROOT/etc/apt" -name '*.list' -exec cat {} + |
  sed "s/$LAB_SUITE/$LAB_STOCK_SUITE/g" > "$ROOT/tmp/stock.list"
from_stock() { in_guest "$@" -o Dir::Etc::SourceList=/tmp/stock.list -o Dir::Etc::SourceParts=/dev/null; }
from_stock apt-get -q update
stock=$(from_stock apt-cache depends "$LAB_STOCK_KERNEL" |
  sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
[ -n "$stock" ] || { say "no stock kernel in $LAB_STOCK_SUITE"; exit 1; }
release=${stock#linux-image-}
# Ubuntu has qemu_fw_cfg, by which a guest learns its name and keys, with the rest of the drivers. Without amdgpu, as in
# Debian's cloud kernel: it comes with the kernel that the deploy installs.
extra=
[ "$LAB_VENDOR" != ubuntu ] || extra="linux-modules-extra-$release"
# shellcheck disable=SC2086
from_stock apt-get -q -y --no-install-recommends -o 'Dpkg::Options::=--path-exclude=/lib/modules/*/drm/amd/*' \
  install "$stock" $extra
[ -z "$extra" ] || in_guest update-initramfs -u -k "$release"
rm "$ROOT/tmp/stock.list"
in_guest apt-get -q clean
engine
in_guest apt-get -q update

ready
recommends_on
preseed

say "boot loader"
mkdir -p "$ROOT/boot/grub/i386-pc"
cp "$ROOT"/usr/lib/grub/i386-pc/*.mod "$ROOT"/usr/lib/grub/i386-pc/*.lst "$ROOT/boot/grub/i386-pc/"
in_guest grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/grub/i386-pc/core.img \
  biosdisk part_msdos ext2
in_guest grub-editenv /boot/grub/grubenv create
# The first menu, by hand: the guest's own update-grub writes the next one, when it installs a kernel.
cat > "$ROOT/boot/grub/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_output serial
insmod search_fs_uuid
search --no-floppy --fs-uuid --set=root $LAB_FS_UUID
linux /boot/vmlinuz-$release root=UUID=$LAB_FS_UUID ro $(sed -n 's/^GRUB_CMDLINE_LINUX="\(.*\)"/\1/p' "$ROOT/etc/default/grub")
initrd /boot/initrd.img-$release
boot
CFG

say "disk"
disk="$OUT/disk.raw"
rm -f "$disk"
truncate -s "$LAB_DISK_BYTES" "$disk"
printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$disk"
# A plain bind mount shows the system without /proc, /sys and /dev, which mmdebstrap has mounted in it.
plain=$(mktemp -d)
mount --bind "$ROOT" "$plain"
rm -f "$plain/usr/sbin/policy-rc.d" "$plain/etc/resolv.conf"
if [ -e "$plain/usr/sbin/start-stop-daemon.REAL" ]; then
  mv "$plain/usr/sbin/start-stop-daemon.REAL" "$plain/usr/sbin/start-stop-daemon"
fi
echo 'nameserver 10.0.2.3' > "$plain/etc/resolv.conf"
blocks=$(((LAB_DISK_BYTES - 1048576) / 4096))
mkfs.ext4 -q -F -b 4096 -N 600000 -m 0 -U "$LAB_FS_UUID" -L ojai-lab -J size=64 \
  -E "offset=1048576,lazy_itable_init=1,lazy_journal_init=1,nodiscard" -d "$plain" "$disk" "$blocks"
# boot.img reads core.img from sector 1 and core.img the rest of itself from sector 2: both are what
# grub-mkimage leaves as defaults, so no probing of devices (grub-install) is needed.
dd if="$ROOT/usr/lib/grub/i386-pc/boot.img" of="$disk" bs=1 count=440 conv=notrunc status=none
core="$ROOT/boot/grub/i386-pc/core.img"
[ "$(stat -c %s "$core")" -le $((2047 * 512)) ] || { say "core.img does not fit before the partition"; exit 1; }
dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none
umount "$plain"
for_mmdebstrap
echo "$release" > "$OUT/stock-kernel"
# shellcheck disable=SC2016 # dpkg-query's own variables, not the shell's
in_guest dpkg-query -W -f '${Package} ${Version}\n' > "$OUT/packages"
say "done: $release"
