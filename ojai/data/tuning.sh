# shellcheck shell=sh
# tuning UNIT: prints `tunes`, or `kept`, `stale` or `missing` for a file that it is to use, then that file; nothing for
# a service that has none. By the unit's own words. `stale`: there are files, of other images alone.
tuning() {
  grep -qs PYTORCH_TUNABLEOP_ENABLED=1 "$1" || return 0
  words=$(sed 's/\\$//' "$1" | tr '\n' ' ')
  place=$(printf '%s' "$words" | sed -n 's/.*src=\([^, ]*\),dst=\/root\/\.cache\/tunableop[, ].*/\1/p')
  file=$(printf '%s' "$words" | sed -n 's/.*PYTORCH_TUNABLEOP_FILENAME=\/root\/\.cache\/tunableop\/\([^ "]*\)\.csv.*/\1/p')
  # PyTorch puts the number of the GPU before the extension.
  state=missing
  for other in "${place%/*}"/*/"${file}0.csv"; do [ ! -s "$other" ] || state=stale; done
  [ ! -s "$place/${file}0.csv" ] || state=kept
  case $words in *PYTORCH_TUNABLEOP_TUNING=1*) state=tunes;; esac
  printf '%s %s\n' "$state" "$place/${file}0.csv"
}
