#!/bin/sh
# Run in a lab guest, as root: makes it the machine that somebody set up by hand after the guides and AMD's pages.
#
#   hand_made.sh ARCHIVE REGISTRY GUIDE [--terminal|--unit|--compose|--stopped] [--docker URL] [--deb822]
#
# ARCHIVE stands for https://repo.radeon.com, REGISTRY for Docker Hub, GUIDE is the guide's script (a file).
# How the server was started: in a terminal with `docker run --rm` (the default), by a unit of the owner's own,
# or as `docker compose up -d` leaves it; --stopped: not at all. --docker: Docker's own packages from this archive.
# --deb822: AMD's sources written by hand as .sources, without the amdgpu-install package.
set -eu
archive=$1 registry=$2 guide=$3
shift 3
start=terminal docker='' sources=installer
while [ $# -gt 0 ]; do
  case $1 in
    --terminal | --unit | --compose | --stopped) start=${1#--} ;;
    --docker) docker=$2 && shift ;;
    --deb822) sources=deb822 ;;
    *) echo "hand_made.sh: unknown: $1" >&2 && exit 2 ;;
  esac
  shift
done
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
home=/home/ada
revision=0123456789abcdef0123456789abcdef01234567
say() { echo "hand-made: $*" >&2; }

account() {
  say "the account ada"
  groupadd --force --system docker
  id ada >/dev/null 2>&1 || useradd --create-home --shell /bin/bash ada
  usermod --append --groups video,render,docker ada
}

# 26B guide, 9.1.
overcommit() {
  echo "vm.overcommit_memory=1" > /etc/sysctl.d/99-rocm-vllm.conf
  sysctl -q -p /etc/sysctl.d/99-rocm-vllm.conf
}

# AMD's pages: the installer's package owns the source files, or they are written by hand.
rocm_sources() {
  say "AMD's sources ($sources)"
  install -d -m 0755 /etc/apt/keyrings
  curl -fsS "$archive/rocm/rocm.gpg.key" | gpg --dearmor --yes -o /etc/apt/keyrings/rocm.gpg
  chmod 0644 /etc/apt/keyrings/rocm.gpg
  if [ "$sources" = deb822 ]; then
    cat > /etc/apt/sources.list.d/rocm.sources <<END
Types: deb
URIs: $archive/rocm/apt/7.2
Suites: noble
Components: main
Signed-By: /etc/apt/keyrings/rocm.gpg

Types: deb
URIs: $archive/graphics/7.2/ubuntu
Suites: noble
Components: main
Signed-By: /etc/apt/keyrings/rocm.gpg
END
  else
    installer
  fi
  cat > /etc/apt/preferences.d/rocm-pin-600 <<'END'
Package: *
Pin: release o=repo.radeon.com
Pin-Priority: 600
END
}

# AMD's .deb, which is downloaded by itself and installed as a file. Its sources name the archive that it is from.
installer() {
  work=$(mktemp -d)
  install -d "$work/DEBIAN" "$work/etc/apt/sources.list.d" "$work/usr/bin"
  signed='signed-by=/etc/apt/keyrings/rocm.gpg'
  cat > "$work/etc/apt/sources.list.d/rocm.list" <<END
deb [arch=amd64 $signed] $archive/rocm/apt/7.2 noble main
deb [arch=amd64 $signed] $archive/graphics/7.2/ubuntu noble main
END
  cat > "$work/etc/apt/sources.list.d/amdgpu.list" <<END
deb [arch=amd64 $signed] $archive/amdgpu/30.30/ubuntu noble main
END
  printf '#!/bin/sh\necho "amdgpu-install: lab stand-in of ojai, it installs nothing" >&2\n' > "$work/usr/bin/amdgpu-install"
  chmod 0755 "$work" "$work/usr/bin/amdgpu-install"
  printf '%s\n' /etc/apt/sources.list.d/rocm.list /etc/apt/sources.list.d/amdgpu.list > "$work/DEBIAN/conffiles"
  cat > "$work/DEBIAN/control" <<'END'
Package: amdgpu-install
Version: 30.30.0.0.30300000-2278356.24.04
Architecture: all
Maintainer: ojai lab <lab@ojai.invalid>
Section: misc
Priority: optional
Description: Lab stand-in of ojai for AMD's installer: its source files, none of its work.
END
  dpkg-deb --root-owner-group -Znone -b "$work" /var/cache/amdgpu-install.deb >/dev/null
  apt-get -q -y install /var/cache/amdgpu-install.deb >/dev/null
  rm -r "$work" /var/cache/amdgpu-install.deb
}

# docs.docker.com, "Install using the apt repository"; else Ubuntu's package.
engine() {
  say "Docker ${docker:-from the archive of the system}"
  if [ "$docker" ]; then
    curl -fsS "$docker/gpg" -o /etc/apt/keyrings/docker.asc
    chmod a+r /etc/apt/keyrings/docker.asc
    echo "deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] $docker noble stable" \
      > /etc/apt/sources.list.d/docker.list
  fi
  # The registry, and a choice of the owner's that nobody else may lose.
  install -d /etc/docker
  printf '{\n  "registry-mirrors": ["%s"],\n  "debug": false\n}\n' "$registry" > /etc/docker/daemon.json
  apt-get -q update >/dev/null
  # shellcheck disable=SC2046
  apt-get -q -y install $([ "$docker" ] && echo docker-ce || echo docker.io docker-cli) rocm >/dev/null
}

# What the hub's client and the engine leave: root's files in ada's folders, since the container runs as root.
caches() {
  say "weights and caches in $home"
  install -d -o ada -g ada "$home/.cache" "$home/models" "$home/workspace"
  install -d "$home/.cache/huggingface" "$home/.cache/vllm/torch_compile_cache/0a1b2c" "$home/.cache/tunableop"
  hub=$home/.cache/huggingface/hub/models--google--gemma-4-E4B-it
  install -d "$hub/blobs" "$hub/refs" "$hub/snapshots/$revision" "$hub/.no_exist/$revision"
  printf %s "$revision" > "$hub/refs/main"
  file() { # NAME: its content comes from standard input
    cat > "$hub/blobs/new"
    sum=$(sha256sum "$hub/blobs/new" | cut -d ' ' -f 1)
    mv "$hub/blobs/new" "$hub/blobs/$sum"
    ln -sf "../../blobs/$sum" "$hub/snapshots/$revision/$1"
  }
  echo '{"architectures": ["Gemma4ForConditionalGeneration"]}' | file config.json
  echo '{}' | file tokenizer.json
  head -c 4194304 /dev/zero | tr '\0' w | file model.safetensors
  touch "$hub/.no_exist/$revision/added_tokens.json"
  echo 1 > "$home/.cache/huggingface/hub/version.txt"
  install -m 0600 -o ada -g ada /dev/null "$home/.cache/huggingface/token"
  echo hf_0ofTheLabsHandMadeHost0123456789 > "$home/.cache/huggingface/token"
  echo compiled > "$home/.cache/vllm/torch_compile_cache/0a1b2c/artifact"
  printf 'Validator,PT_VERSION,2.9.0\nValidator,ROCM_VERSION,7.2.0.0\nGemmTunableOp_float_TN,tn_1_2_3,Default,0.1\n' \
    > "$home/.cache/tunableop/gemma4_gfx11500.csv"
  echo "mine" > "$home/models/README"
  echo "mine" > "$home/workspace/notes.txt"
  chown ada:ada "$home/models/README" "$home/workspace/notes.txt"
}

# The words of the guide's `docker run` from --name on, for the other two ways to start it.
# Variables are the guide's, for sed to find.
# shellcheck disable=SC2016
words() {
  sed -n '/^docker run/,$p' "$guide" |
    sed '1d; s|"$IMAGE"|vllm/vllm-openai-rocm:v0.20.1|; s|"$MODEL"|google/gemma-4-E4B-it|'
}

server() {
  install -m 0755 -o ada -g ada "$guide" "$home/serve.sh"
  su ada -c 'docker pull -q vllm/vllm-openai-rocm:v0.20.1' >/dev/null
  say "the server, by $start"
  case $start in
    terminal)
      # A terminal of ada's that stays open.
      setsid su - ada -c 'script -qfec ~/serve.sh /dev/null' </dev/null >/dev/null 2>&1 &
      ;;
    unit)
      {
        printf '[Unit]\nDescription=Gemma 4, as ada likes it\nRequires=docker.service\nAfter=docker.service\n\n'
        printf '[Service]\nEnvironment=HOME=%s\nExecStart=/usr/bin/docker run --rm \\\n' "$home"
        words | grep -v '^\\$' | sed -e 's|"[$]{HF_TOKEN:-}"||' -e "s|[$]HOME|$home|"
        printf 'ExecStop=/usr/bin/docker stop vllm-gemma4\nRestart=on-failure\n\n[Install]\nWantedBy=multi-user.target\n'
      } > /etc/systemd/system/gemma.service
      systemctl daemon-reload
      systemctl enable -q --now gemma.service
      ;;
    compose)
      install -d -o ada -g ada "$home/gemma"
      echo '# what these labels say; the file itself is of no use without the plug-in' > "$home/gemma/compose.yaml"
      {
        printf 'docker run -d --restart unless-stopped \\\n'
        for label in project=gemma service=vllm oneoff=False container-number=1 version=2.40.3 \
          "project.working_dir=$home/gemma" "project.config_files=$home/gemma/compose.yaml"; do
          printf '%s com.docker.compose.%s \\\n' --label "$label"
        done
        words
      } > "$home/gemma/up.sh"
      su - ada -c 'sh ~/gemma/up.sh' >/dev/null
      ;;
    stopped) return ;;
  esac
  seconds=0
  until curl -fsS --noproxy '*' -o /dev/null -m 3 http://127.0.0.1:8000/health 2>/dev/null; do
    seconds=$((seconds + 1))
    if [ $seconds -gt 120 ]; then
      say "the server does not answer" && docker logs vllm-gemma4 >&2
      exit 1
    fi
    sleep 1
  done
}

account
overcommit
rocm_sources
engine
caches
server
say "done"
