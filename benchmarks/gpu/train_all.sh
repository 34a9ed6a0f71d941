#!/usr/bin/env bash
# See train_all.py; arguments are passed on. PYTHON names the interpreter.
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/train_all.py" "$@"
