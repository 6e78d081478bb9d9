#!/usr/bin/env bash
# Evaluate on several GPUs: tools/dist_test.sh CONFIG CHECKPOINT GPUS [OPTIONS OF test.py]
# For several machines, see tools/dist_run.sh.
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [OPTIONS OF test.py]" >&2
    exit 2
fi
here=$(dirname "$0")
exec "$here/dist_run.sh" "$3" "$here/test.py" "$1" "$2" "${@:4}"
