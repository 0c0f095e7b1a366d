#!/bin/sh
# A disk that fills up while `train` saves: a small tmpfs as output folder. Needs root for the mount.
#
#   sh tests/reference/train_disk_full.sh MODEL_FOLDER DATA TRAIN_BINARY
#
# MODEL_FOLDER is the miniature, DATA its `train` folder. The tmpfs holds one file of the adapter and not a second one with its state.
set -eu
model=$1 data=$2 train=$3
disk=$(mktemp -d)
mount -t tmpfs -o size=1m tmpfs "$disk"
trap 'umount "$disk"; rmdir "$disk"' EXIT
status=0
TMPDIR=$(mktemp -d) && export TMPDIR
"$train" --model "$model" --train_data_dir "$data" --output_dir "$disk/out" --output_name a --resolution 64 --network_dim 8 \
    --learning_rate 1e-3 --seed 1 --max_train_steps 9 --save_every_n_steps 2 --save_state --device cpu || status=$?
echo "exit status $status; on the disk:"
ls -la "$disk/out"
echo "in the temporary folder:"
ls -la "$TMPDIR"
