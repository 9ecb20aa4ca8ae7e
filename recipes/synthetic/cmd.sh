# shellcheck shell=bash disable=SC2034,SC2154
# What training and probing are started with; empty: as they are, on the GPU if there is one. Examples:
#   train_cmd="env CUDA_VISIBLE_DEVICES=1"
#   train_cmd="nice"
train_cmd=

# What stage 4 pretrains with.
pretrain_cmd=python
