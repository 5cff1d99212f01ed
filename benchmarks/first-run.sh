#!/bin/sh
# The first run by hand: the apt, docker and file commands that deploy.py gives, with nothing asked first. As root, on the
# host: MIRROR REGISTRY KEY(base64) PACKAGES USER
set -eu
mirror=$1 registry=$2 key=$3 packages=$4 user=$5
export DEBIAN_FRONTEND=noninteractive
systemctl mask hibernate.target hybrid-sleep.target sleep.target suspend.target suspend-then-hibernate.target
systemctl set-default multi-user.target
groupadd --force --system video
groupadd --force --system render
usermod --append --groups video,render "$user"
install -d -m 755 /etc/apt/keyrings
echo "$key" | base64 -d >/etc/apt/keyrings/ojai-rocm.gpg
chmod 644 /etc/apt/keyrings/ojai-rocm.gpg
{
  echo "# Made by ojai: ROCm 7.2."
  for path in rocm/apt/7.2 graphics/7.2/ubuntu; do
    [ "$path" = rocm/apt/7.2 ] || echo
    printf 'Types: deb\nURIs: %s/%s\nSuites: noble\nComponents: main\nArchitectures: amd64\nSigned-By: %s\n' \
      "$mirror" "$path" /etc/apt/keyrings/ojai-rocm.gpg
  done
} >/etc/apt/sources.list.d/ojai-rocm.sources
printf '# Made by ojai.\nPackage: *\nPin: release o=repo.radeon.com\nPin-Priority: 600\n' \
  >/etc/apt/preferences.d/ojai-rocm-pin-600
apt-get -q update
apt-get -q -y --no-install-recommends install rocminfo amd-smi-lib
printf '# Made by ojai.\n%s/lib\n%s/lib64\n' /opt/rocm /opt/rocm >/etc/ld.so.conf.d/ojai-rocm.conf
ldconfig
install -d -m 755 /etc/docker
printf '{\n    "registry-mirrors": [\n        "%s"\n    ]\n}\n' "$registry" >/etc/docker/daemon.json
# Split, on purpose: a list of package names.
# shellcheck disable=SC2086
apt-get -q -y --no-install-recommends install $packages
systemctl enable --now docker.service
docker info --format '{{json .RegistryConfig.Mirrors}}' | grep -qF "$registry"
for folder in huggingface vllm tunableop models workspace; do install -d -m 755 "/srv/ojai/$folder"; done
