#!/bin/sh
# Name what the system lacks, with the command that installs it, before anything is downloaded.
python="$1"
missing=""

if ! command -v "$python" >/dev/null 2>&1; then
    missing="$missing python3"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: $python is older than 3.10; name a newer one: make PYTHON=python3.11 ..." >&2
    exit 1
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    missing="$missing python3-venv"
fi

# opencv-python draws windows, and its wheel expects these libraries from the system
command -v ldconfig >/dev/null 2>&1 || PATH="$PATH:/sbin:/usr/sbin"
for pair in libGL.so.1:libgl1 libglib-2.0.so.0:libglib2.0-0; do
    library="${pair%%:*}"
    if command -v ldconfig >/dev/null 2>&1 && ! ldconfig -p | grep -q "$library"; then
        missing="$missing ${pair##*:}"
    fi
done

if [ -n "$missing" ]; then
    echo "error: Debian packages are missing; install them with" >&2
    echo "    sudo apt-get install$missing" >&2
    exit 1
fi
