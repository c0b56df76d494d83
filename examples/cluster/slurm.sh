#!/bin/bash
#SBATCH --job-name=jetbed
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=04:00:00
# A run over the nodes of a Slurm job: sbatch --nodes=N slurm.sh CONFIG.toml OUT
set -euo pipefail

config=$1 out=$2
head=$(hostname)
port=$((20000 + SLURM_JOB_ID % 20000))
# Sockets need a short path, and logs a local disk.
export RAY_TMPDIR=/tmp/ray-$SLURM_JOB_ID RAY_AUTH_MODE=token
# The home is on all nodes: the token that is written once lets in all of them.
ray get-auth-token --generate > /dev/null
cpus=${SLURM_CPUS_ON_NODE:-1}

ray start --head --block --port="$port" --num-cpus="$cpus" --include-dashboard=false --disable-usage-stats \
    --temp-dir="$RAY_TMPDIR" > "ray-$SLURM_JOB_ID.log" 2>&1 &
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        bash -c "until ray start --address=$head:$port --block --num-cpus=$cpus --disable-usage-stats; do sleep 2; done" \
        >> "ray-$SLURM_JOB_ID.log" 2>&1 &
fi
until python -c "
import ray, sys
ray.init('$head:$port', log_to_driver=False, logging_level='ERROR')
sys.exit(sum(node['Alive'] for node in ray.nodes()) < $SLURM_JOB_NUM_NODES)" 2> /dev/null; do sleep 2; done

# Slurm ends the job, and with it Ray, when the script ends.
if [ -e "$out/run.json" ]; then
    RAY_ADDRESS=$head:$port jetbed resume "$out"
else
    RAY_ADDRESS=$head:$port jetbed run "$config" --out "$out"
fi
