#!/usr/bin/env bash
# Benchmark an Orin in every power mode and precision; one JSON at the end.
#
#   benchmarks/jetson.sh [--dry-run] [--modes "0 1 2"] [--precisions "fp32 fp16 int8"]
#                        [--calib DIR] [--variants "tiny"] [--imgsz 256] [--output DIR]
#
# Locks the clocks of each mode with jetson_clocks, and puts power mode and clocks back as they
# were, however it ends. Engines are built once, in the mode it finds; the build refuses a precision
# whose masks differ, and rwkv-edge benchmark refuses to time a wrong one. int8 needs --calib, a
# folder of images. Needs sudo for nvpmodel and jetson_clocks. --dry-run prints every command and
# runs none. Written from NVIDIA's documentation; not yet run on a Jetson.
set -euo pipefail

dry_run=false
modes=""
precisions="fp32 fp16"
calib=""
variants="tiny"
imgsz=256
output="jetson-benchmark"
rwkv_edge=${RWKV_EDGE:-rwkv-edge}
settle_seconds=5

usage() {
  sed -n '2,12s/^# \{0,1\}//p' "$0"
}

fail() {
  echo "error: $1" >&2
  exit "${2:-1}"
}

while (($#)); do
  case $1 in
    --dry-run) dry_run=true ;;
    -h | --help)
      usage
      exit 0
      ;;
    --modes | --precisions | --calib | --variants | --imgsz | --output)
      (($# > 1)) || fail "$1 needs a value" 2
      case $1 in
        --modes) modes=$2 ;;
        --precisions) precisions=$2 ;;
        --calib) calib=$2 ;;
        --variants) variants=$2 ;;
        --imgsz) imgsz=$2 ;;
        --output) output=$2 ;;
      esac
      shift
      ;;
    *) fail "unknown option $1; see --help" 2 ;;
  esac
  shift
done

for precision in $precisions; do
  case $precision in
    fp32 | fp16 | bf16) ;;
    int8) [[ -n $calib ]] || fail "int8 needs --calib DIR, a folder of images" 2 ;;
    *) fail "unknown precision $precision: fp32, fp16, bf16 or int8" 2 ;;
  esac
done

run() {
  if $dry_run; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

if ! $dry_run; then
  for tool in nvpmodel jetson_clocks "$rwkv_edge"; do
    command -v "$tool" >/dev/null || fail "$tool is not here; is this a Jetson? see --dry-run"
  done
  [[ ! -e $output ]] || fail "$output is there already: move it away or give --output"
  mkdir -p "$output"
fi

# The modes of this module, as its nvpmodel.conf names them.
if [[ -z $modes ]]; then
  if $dry_run; then
    modes="0"
  else
    modes=$(sed -n 's/.*POWER_MODEL[[:space:]]\+ID=\([0-9]\+\).*/\1/p' /etc/nvpmodel.conf | tr '\n' ' ')
  fi
fi
[[ -n $modes ]] || fail "no power modes in /etc/nvpmodel.conf: give --modes"

if $dry_run; then
  mode_before="MODE_BEFORE"
else
  mode_before=$(sudo nvpmodel -q | tail -n 1)
fi
clocks_before=$output/clocks-before.conf

# Where a mode needs a reboot nvpmodel asks on the terminal, and without an answer fails; on some
# boards even for the mode that is set already, so that one is left alone.
set_mode() {
  $dry_run || [[ $1 != "$(sudo nvpmodel -q | tail -n 1)" ]] || return 0
  run sudo nvpmodel -m "$1" </dev/null
}

restore() {
  local status=$?
  trap - EXIT
  # the mode first, for it sets the limits that the stored clocks lie within
  set_mode "$mode_before" || echo "warning: power mode not restored" >&2
  run sudo jetson_clocks --restore "$clocks_before" || echo "warning: clocks not restored" >&2
  exit "$status"
}

run sudo jetson_clocks --store "$clocks_before"
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for variant in $variants; do
  for precision in $precisions; do
    words=(build --variant "$variant" --imgsz "$imgsz" --precision "$precision"
      --output "$output/$variant-$imgsz-$precision.engine")
    [[ -z $calib ]] || words+=(--calib "$calib")
    run "$rwkv_edge" "${words[@]}"
  done
done

results=()
for mode in $modes; do
  if ! set_mode "$mode"; then
    echo "left out: power mode $mode needs a reboot or is not there" >&2
    continue
  fi
  run sudo jetson_clocks
  run sleep "$settle_seconds"
  words=(benchmark --output "$output/mode-$mode")
  for variant in $variants; do
    for precision in $precisions; do
      words+=(--model "$output/$variant-$imgsz-$precision.engine")
    done
  done
  run "$rwkv_edge" "${words[@]}"
  results+=("$output/mode-$mode/benchmark.json")
done
((${#results[@]})) || fail "no power mode could be set"

merge='
import json, sys
with open(sys.argv[1], "w") as file:
    json.dump([json.load(open(path)) for path in sys.argv[2:]], file, indent=2)
'
run python3 -c "$merge" "$output/jetson.json" "${results[@]}"
$dry_run || echo "wrote $output/jetson.json"
