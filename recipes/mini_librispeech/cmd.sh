# shellcheck shell=bash disable=SC2034,SC2154
# What training and probing are started with; empty: as they are, on the GPU if there is one. Examples:
#   train_cmd="env CUDA_VISIBLE_DEVICES=1"
#   train_cmd="nice"
train_cmd=

# What stage 4 pretrains with: one process, or one for each of --ngpu. For several machines and for Slurm see
# recipes/librispeech100/cmd.sh.
pretrain_cmd=python
if ((ngpu > 1)); then pretrain_cmd="torchrun --standalone --nproc-per-node $ngpu"; fi
