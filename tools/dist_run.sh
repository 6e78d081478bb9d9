#!/usr/bin/env bash
# Run a script in several processes: tools/dist_run.sh PROCESSES SCRIPT [ARGUMENTS]
# For several machines, set NNODES, NODE_RANK and MASTER_ADDR (and PORT) on each machine.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "error: '${1-}' is not a number of processes; pass the number of GPUs per machine" >&2
    exit 2
fi
processes=$1
shift

if [[ ${NNODES:-1} == 1 ]]; then
    rendezvous=(--standalone)
else
    rendezvous=(
        --nnodes "$NNODES"
        --node_rank "${NODE_RANK:?is not set; set it to the index of this machine, from 0}"
        --master_addr "${MASTER_ADDR:?is not set; set it to the address of machine 0}"
        --master_port "${PORT:-29500}"
    )
fi
exec python -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node "$processes" "$@" \
    --launcher pytorch
