#!/usr/bin/env bash
# Start a tool in several processes: tools/dist_run.sh PROCESSES SCRIPT [ARGUMENTS]
# Several machines: NNODES, NODE_RANK and MASTER_ADDR (and PORT) on each of them.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "error: '${1-}' is no number of processes; give one for each GPU of a machine" >&2
    exit 2
fi
processes=$1
shift

if [[ ${NNODES:-1} == 1 ]]; then
    rendezvous=(--standalone)
else
    rendezvous=(
        --nnodes "$NNODES"
        --node_rank "${NODE_RANK:?is not set; give each machine its number, from 0 on}"
        --master_addr "${MASTER_ADDR:?is not set; give the address of machine 0}"
        --master_port "${PORT:-29500}"
    )
fi
exec python -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node "$processes" "$@" \
    --launcher pytorch
