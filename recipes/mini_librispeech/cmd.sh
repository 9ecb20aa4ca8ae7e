# shellcheck shell=bash disable=SC2034
# What training and probing are started with; empty: as they are, on the GPU if there is one. Examples:
#   train_cmd="env CUDA_VISIBLE_DEVICES=1"
#   train_cmd="nice"
train_cmd=

# What stage 4 pretrains with; empty: one process for each of --ngpu. For several machines and for Slurm see
# recipes/librispeech100/cmd.sh.
pretrain_cmd=
