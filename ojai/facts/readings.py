"""Shell functions that read a host's instruments, for the facts that ask how it is."""

from __future__ import annotations

from dataclasses import dataclass

from ojai.facts.service import CURL
from ojai.settings import HostSettings

#: ``gpu``: the driver's own numbers of each GPU. ``metrics URL ours=theirs…``: the sums of metrics by our names; of
#: the share of the KV cache the largest. ``with_key FILE …``: curl with the key that a service asks for.
READINGS = r"""
gpu() {
  for card in /sys/class/drm/card*/device; do
    [ -r "$card/mem_info_vram_used" ] || continue
    fact gpu "busy=$(cat "$card/gpu_busy_percent" 2>/dev/null)" "vram_used=$(cat "$card/mem_info_vram_used")" \
      "vram_total=$(cat "$card/mem_info_vram_total" 2>/dev/null)" \
      "gtt_used=$(cat "$card/mem_info_gtt_used" 2>/dev/null)" \
      "gtt_total=$(cat "$card/mem_info_gtt_total" 2>/dev/null)" \
      "temperature=$(cat "$card"/hwmon/hwmon*/temp1_input 2>/dev/null | head -n 1)"
  done
}
metrics() {
  file=$1 url=$2
  shift 2
  with_key "$file" -m 5 "$url" | awk -v wanted="$*" '
    BEGIN {
      many = split(wanted, pair, " ")
      for (i = 1; i <= many; i++) {split(pair[i], one, "="); name[one[2]] = one[1]}
    }
    /^#/ {next}
    {key = $1; sub(/[{].*/, "", key)}
    key in name {
      ours = name[key]
      if (ours != "kv_cache") sum[ours] += $NF
      else if (!(ours in sum) || $NF > sum[ours]) sum[ours] = $NF
    }
    END {for (key in sum) printf " %s=%.17g", key, sum[key]}'
}
with_key() {
  case $1 in
    *.secrets/*) key=$(cat "$1" 2>/dev/null) ;;
    *) key=$(sed -n 's/^[A-Z]*_API_KEY=//p' "$1" 2>/dev/null | tail -n 1) ;;
  esac
  shift
  printf 'header = "Authorization: Bearer %s"\n' "${key%% *}" | %CURL% -K - -s "$@"
}
""".replace("%CURL%", CURL)


@dataclass(frozen=True)
class Asked:
    """A service to ask about.

    Its name, unit and environment file, the file of its key where it has one, its server's address and paths, its
    model, and its metrics (:attr:`ojai.engines.Metrics.words`).
    """

    name: str
    unit: str
    url: str
    health: str
    metrics: str
    models: str
    model: str
    env_file: str
    counts: tuple[str, ...]
    key_file: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """As the scripts take it."""
        own = (self.name, self.unit, self.url, self.health, self.metrics, self.models)
        return *own, self.model, self.key_file or self.env_file, *self.counts


def services(settings: HostSettings) -> tuple[Asked, ...]:
    """The services of a host, to ask about."""
    return tuple(
        Asked(
            name=service.name,
            unit=service.unit,
            url=f"http://{service.address}:{service.port}",
            health=service.engine.api.health,
            metrics=service.engine.api.metrics,
            models=service.engine.api.models,
            model=service.command.served_model_name,
            env_file=service.env_file,
            key_file=service.key_file,
            counts=service.engine.metrics.words,
        )
        for service in settings.resolved
    )
