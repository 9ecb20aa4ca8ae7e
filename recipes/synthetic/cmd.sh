# shellcheck shell=bash disable=SC2034
# What training and probing are started with; empty: as they are, on the GPU if there is one. Examples:
#   train_cmd="env CUDA_VISIBLE_DEVICES=1"
#   train_cmd="nice"
train_cmd=
