# shellcheck shell=bash disable=SC2034
# What training and probing are started with; empty: as they are, on the GPU if there is one. Examples:
#   train_cmd="env CUDA_VISIBLE_DEVICES=1"
#   train_cmd="nice"
train_cmd=

# What stage 4 pretrains with; empty: one process for each of --ngpu. There can be at most as many in all as conf/cpc.yaml
# has minibatches, 8, which they share out. Examples:
pretrain_cmd=

# Several machines. Each runs "run.sh --stage 4 --stop-stage 4 --ngpu 2", in a --work DIR that all of them share. All
# but first-machine may leave and come back, from 1 to 4 machines here: the others restart then, at the last checkpoint.
# (With a shared store, restarted processes would find each other's old addresses: PyTorch's issue 135712.)
#   export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
#   pretrain_cmd="torchrun --nnodes 1:4 --nproc-per-node $ngpu --max-restarts 10 --rdzv-id cpc
#     --rdzv-backend c10d --rdzv-endpoint first-machine:29400"
#
# Slurm, one machine. SIGTERM, two minutes before the time is up, stops all processes after one and the same update, with
# a checkpoint; the same command goes on. torchrun waits for it as long as it is told:
#   sbatch --gpus 8 --cpus-per-task 32 --signal B:TERM@120 --wrap 'exec recipes/librispeech100/run.sh --ngpu 8'
#   export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100
#
# Slurm, several machines: run.sh runs on the job's first one, and here starts a torchrun on each.
#   sbatch --nodes 4 --ntasks-per-node 1 --gpus-per-node 2 --cpus-per-task 16 --signal TERM@120 \
#     --wrap 'recipes/librispeech100/run.sh --ngpu 2'
#   pretrain_cmd="srun --ntasks-per-node 1 --cpus-per-task $SLURM_CPUS_PER_TASK torchrun --nnodes $SLURM_NNODES
#     --nproc-per-node $ngpu --rdzv-id $SLURM_JOB_ID --rdzv-backend c10d --rdzv-endpoint $(hostname):29400"
