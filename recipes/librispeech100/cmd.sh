# shellcheck shell=bash disable=SC2034,SC2154
# What training and probing are started with; empty: as they are, on the GPU if there is one. Examples:
#   train_cmd="env CUDA_VISIBLE_DEVICES=1"
#   train_cmd="nice"
train_cmd=

# What stage 4 pretrains with: one process, or one for each of --ngpu.
pretrain_cmd=python
if ((ngpu > 1)); then pretrain_cmd="torchrun --standalone --nproc-per-node $ngpu"; fi

# Several machines. Each runs "run.sh --stage 4 --stop-stage 4 --ngpu N", in a --work DIR that all of them share.
# The first to come names its port; machines may leave and come back (from 1 to 4 of them here): all restart then, at
# the last checkpoint. However many there are, they share out conf/cpc.yaml's minibatches, and train the same model.
#   pretrain_cmd="torchrun --nnodes 1:4 --nproc-per-node $ngpu --max-restarts 10 --rdzv-id cpc
#     --rdzv-backend c10d --rdzv-endpoint first-machine:29400"
#
# Slurm: "sbatch --nodes 4 --gpus-per-node 8 --signal TERM@120 --requeue --wrap 'recipes/librispeech100/run.sh --ngpu 8'"
# runs run.sh on the job's first machine. SIGTERM, two minutes before the job's time is up or when it has to make room
# for another, stops all processes after one and the same update, with a checkpoint; the same command goes on.
#   pretrain_cmd="srun --ntasks-per-node 1 torchrun --nnodes $SLURM_NNODES --nproc-per-node $ngpu
#     --rdzv-id $SLURM_JOB_ID --rdzv-backend c10d --rdzv-endpoint $(hostname):29400"
