#!/usr/bin/env bash
# The measurements of content-shift.md, from the repository alone; the four trainings take most of the time.
#
#   OUT=folder docs/content-shift.sh
#
# For each of two styles that the learnt miniature has never seen: 30 images to train on, 32 others to measure; a LoRA by
# `configs/quickstart.toml` and one by `cleandift`; `extract score` over six sets; keypoints of image pairs found again by the same features (needs Python, torch).
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-content-shift} PYTHON=${PYTHON:-python3} MODEL=assets/miniature
cargo build --release --workspace --bin train --bin convert --bin extract --example scenes
bin=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)
export PATH="$bin/examples:$bin:$PATH"
prompt="a photo of an animal, a car, a boat, a house, a teapot or a chair, sharp, high quality"

for style in print drawing; do
  folder=$OUT/$style
  scenes kohya "$folder/train" --style "$style" --count 30
  scenes images "$folder/images" --style "$style" --count 32 --seed 1
  scenes spair "$folder/spair" --style "$style" --count 24 --seed 2
  train --config configs/quickstart.toml --pretrained_model_name_or_path "$MODEL" --train_data_dir "$folder/train" \
    --output_dir "$folder/lora" --output_name lora --overwrite
  train --config configs/cleandift.toml --pretrained_model_name_or_path "$MODEL" --train_data_dir "$folder/train" --resolution 128 \
    --unet_lr 1e-3 --train_batch_size 4 --max_train_steps 300 --network_dim 8 --network_alpha 8 \
    --output_dir "$folder/cleandift" --output_name cleandift --overwrite

  cat >"$folder/sets.toml" <<SETS
[[set]]
name = "plain"
layer = ["up-level0-upsampler-out", "up-level1-upsampler-out", "up-level2-upsampler-out", "up-level1-repeat2-vit-out", "up-level2-repeat2-vit-out"]
t = 261
prompt = ""
[[set]]
name = "prompt"
prompt = "$prompt"
[[set]]
name = "controlnet"
prompt = ""
control = ["canny"]
[[set]]
name = "lora"
prompt = ""
lora = ["$folder/lora/lora.safetensors"]
[[set]]
name = "all three"
prompt = "$prompt"
control = ["canny"]
lora = ["$folder/lora/lora.safetensors"]
[[set]]
name = "cleandift"
noise = "none"
prompt = ""
lora = ["$folder/cleandift/cleandift.safetensors"]
SETS
  run=(--config "$folder/sets.toml" --model "$MODEL" --controlnet-model "canny=$MODEL/controlnet-canny" --img_size 128)
  extract score "${run[@]}" --input_dir "$folder/images/*.png" --draws 4 --timesteps 50,261,500 --warps 2 --decode --output "$folder/scores"
  extract "${run[@]}" --input_dir "$folder/spair/JPEGImages/**/test_*.jpg" --nested-input-dir --use_original_filename --output_dir "$folder/features"
  "$PYTHON" tests/reference/keypoint_pck.py "$folder/features" "$folder/spair/JPEGImages/spair_71k_test.json" --layer \
    up-level{0,1,2}-upsampler-out up-level{1,2}-repeat2-vit-out >"$folder/keypoints.md"
  table=("$PYTHON" tests/reference/content_shift.py "$folder/scores/scores.csv")
  {
    "${table[@]}"
    "${table[@]}" --timestep 261 --gain
    "${table[@]}" --score imagination
    "${table[@]}" --score cka --timestep 261
    "${table[@]}" --score warp_pck --timestep 261
    cat "$folder/keypoints.md"
    "${table[@]}" --timestep 261 --keypoints "$folder/keypoints.md"
  } | tee "$folder/tables.md"
done
