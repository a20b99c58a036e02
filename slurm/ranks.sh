# Sourced by the scripts beside it: from here on Slurm's tasks become ranks, as torchrun would describe them.
# shellcheck shell=bash

python=${UV_PROJECT_ENVIRONMENT:-.venv}/bin/python
if [ ! -f train.py ] || [ ! -x "$python" ]; then
    echo "error: there is no train.py or no $python in $PWD; run uv sync there and submit from there." >&2
    exit 2
fi
MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export MASTER_ADDR MASTER_PORT OMP_NUM_THREADS

# become_ranks PROGRAM WORD...: replaces this shell by srun, which runs a Python program as all ranks.
become_ranks() {
    # Since Slurm 22.05 srun has to be told how many cores a task has. When a rank dies the others say so, and end.
    # shellcheck disable=SC2016
    exec srun --kill-on-bad-exit=0 --cpus-per-task="$OMP_NUM_THREADS" "${hold[@]}" bash -c \
        'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec "$0" "$@"' "$python" "$@"
}
