#!/usr/bin/env bash
# Train on several GPUs: tools/dist_train.sh CONFIG GPUS [OPTIONS OF train.py]
# For several machines, see tools/dist_run.sh.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: $0 CONFIG GPUS [OPTIONS OF train.py]" >&2
    exit 2
fi
here=$(dirname "$0")
exec "$here/dist_run.sh" "$2" "$here/train.py" "$1" "${@:3}"
