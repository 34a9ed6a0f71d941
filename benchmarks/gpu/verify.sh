#!/usr/bin/env bash
# See verify.py; arguments are passed on. PYTHON names the interpreter.
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/verify.py" "$@"
