#!/usr/bin/env bash
# Everything, in order: verify, kernels, model, train. What is not verified is not timed.
#
#   benchmarks/gpu/run_all.sh --data kvasir-seg [--extra DIR] [--minutes 20] [--output gpu-results]
#                             [--allow-missing] [--dry-run]
#
# Takes about a quarter of an hour and the minutes of training. PYTHON names the interpreter.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
common=() verify=() train=()
dry=
while [ $# -gt 0 ]; do
  case $1 in
    --output) common+=("$1" "$2"); shift 2 ;;
    --dry-run) common+=("$1"); dry=yes; shift ;;
    --allow-missing) verify+=("$1"); shift ;;
    --data | --extra | --minutes | --variants) train+=("$1" "$2"); shift 2 ;;
    *) echo "error: unknown argument $1" >&2; exit 2 ;;
  esac
done
if [ -z "$dry" ] && [[ " ${train[*]-} " != *" --data "* ]]; then
  echo "error: --data is missing: the data set to train on" >&2
  exit 2
fi
"$python" "$here/verify.py" ${common[@]+"${common[@]}"} ${verify[@]+"${verify[@]}"}
status=0
"$python" "$here/kernels.py" ${common[@]+"${common[@]}"} || status=1
"$python" "$here/model.py" ${common[@]+"${common[@]}"} || status=1
"$python" "$here/train_all.py" ${common[@]+"${common[@]}"} ${train[@]+"${train[@]}"} || status=1
exit $status
