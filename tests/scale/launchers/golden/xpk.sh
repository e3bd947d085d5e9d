#!/bin/bash
set -e
xpk workload create --workload=rates-0 --cluster=c --tpu-type=v5litepod-4x4 --num-slices=2 --docker-image=gcr.io/p/tl:1 --project=p --zone=us-central1-a --priority=high '--env=A=b c' --max-restarts=10 --restart-on-exit-codes=75 '--command=tl-jax sweep rates.py '"'"'--workdir=/mnt/my work'"'"' --member=0'
xpk workload create --workload=rates-1 --cluster=c --tpu-type=v5litepod-4x4 --num-slices=2 --docker-image=gcr.io/p/tl:1 --project=p --zone=us-central1-a --priority=high '--env=A=b c' --max-restarts=10 --restart-on-exit-codes=75 '--command=tl-jax sweep rates.py '"'"'--workdir=/mnt/my work'"'"' --member=1'
xpk workload create --workload=rates-2 --cluster=c --tpu-type=v5litepod-4x4 --num-slices=2 --docker-image=gcr.io/p/tl:1 --project=p --zone=us-central1-a --priority=high '--env=A=b c' --max-restarts=10 --restart-on-exit-codes=75 '--command=tl-jax sweep rates.py '"'"'--workdir=/mnt/my work'"'"' --member=2-3'
