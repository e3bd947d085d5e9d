#!/bin/bash
#SBATCH --job-name=rates
#SBATCH --array=0-2%2
#SBATCH '--output=/mnt/my work/logs/slurm-%A_%a.log'
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=4:00:00
#SBATCH --partition=gpu
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G

export A='b c'
module load cuda
srun --unbuffered tl-jax sweep rates.py '--workdir=/mnt/my work' --member="$SLURM_ARRAY_TASK_ID"
code=$?
if [ "$code" -eq 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
