#!/usr/bin/env bash
# From nothing to suppressed features: trains a LoRA on 30 images, converts it, extracts features of other images plainly and with
# each technique against content shift, and draws them side by side. Without a hub it makes itself a miniature model to work on.
#
#   ./quickstart.sh                                                       # miniature; the first build takes about eight minutes on two cores
#   MODEL=stable-diffusion-v1-5/stable-diffusion-v1-5 TRAIN=my/train IMAGES='my/photos/*.jpg' ./quickstart.sh    # the real job
#   CONTROLNET=... names another ControlNet, SIZE=512 the image size, EPOCHS=... the training epochs, OUT=... the folder of the results
set -euo pipefail
cd "$(dirname "$0")"
OUT=${OUT:-quickstart}
cargo build --release --workspace --bins --example miniature
bin=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)

if [[ -z ${MODEL:-} ]]; then
  "$bin/examples/miniature" "$OUT/model" --images
  MODEL=$OUT/model CONTROLNET=$OUT/model/controlnet-canny TRAIN=$OUT/model/train IMAGES="$OUT/model/images/*.png" SIZE=128 EPOCHS=${EPOCHS:-1}
fi
export PATH="$bin:$PATH"
shot=(extract --model "$MODEL" --img_size "${SIZE:-512}" --t 50 --layer configs/layers/quickstart.json --input_dir "$IMAGES"
  --use_original_filename --aggregate_output)
prompt="a photo of colored shapes, sharp, high quality"
canny=${CONTROLNET:-lllyasviel/sd-controlnet-canny}

train --config configs/quickstart.toml --pretrained_model_name_or_path "$MODEL" --train_data_dir "$TRAIN" \
  --resolution "${SIZE:-512}" --max_train_epochs "${EPOCHS:-10}" --output_dir "$OUT/lora" --output_name shapes --overwrite
convert diffusers "$OUT/lora/shapes.safetensors" --output "$OUT/lora/diffusers"
"${shot[@]}" --prompt "" --output_dir "$OUT/features/plain"
"${shot[@]}" --prompt "$prompt" --output_dir "$OUT/features/prompt"
"${shot[@]}" --prompt "$prompt" --control canny --controlnet-model "canny=$canny" --output_dir "$OUT/features/controlnet"
"${shot[@]}" --prompt "$prompt" --lora "$OUT/lora/diffusers/pytorch_lora_weights.safetensors" --output_dir "$OUT/features/lora"
extract pca "$OUT"/features/{plain,prompt,controlnet,lora} --output "$OUT/images" --images "$IMAGES"
