#!/usr/bin/env bash
# From nothing to suppressed features: trains a LoRA on 30 images, converts it, extracts features of other images plainly and with
# each technique against content shift, draws them side by side, and measures how far each drifts: a table, and a report for a browser.
# Without a hub it works on the learnt miniature of assets/, which knows procedural photos, and on images of a style that it has not seen.
#
#   ./quickstart.sh                                                       # miniature; the first build takes about eight minutes on two cores
#   MODEL=stable-diffusion-v1-5/stable-diffusion-v1-5 TRAIN=my/train IMAGES='my/photos/*.jpg' ./quickstart.sh    # the real job
#   CONTROLNET=... names another ControlNet, PROMPT=... another prompt, SIZE=512 the image size, EPOCHS=... the training epochs,
#   RECIPE=... another configuration of the training, OUT=... the folder of the results
set -euo pipefail
cd "$(dirname "$0")"
OUT=${OUT:-quickstart}
recipe=${RECIPE:-configs/paper-lora.toml} length=(--max_train_epochs "${EPOCHS:-10}")
draws=(--draws 2 --timesteps 261 --warps 0) # of the real job: ten passes of the network an image
cargo build --release --workspace --bin train --bin convert --bin extract --example scenes
bin=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)

if [[ -z ${MODEL:-} ]]; then
  MODEL=assets/miniature CONTROLNET=assets/miniature/controlnet-canny TRAIN=$OUT/train IMAGES="$OUT/photos/*.png" SIZE=128
  recipe=${RECIPE:-configs/quickstart.toml}
  [[ -n ${EPOCHS:-} ]] || length=(--max_train_steps 100) # a taste: half a minute instead of the file's four
  "$bin/examples/scenes" kohya "$TRAIN" --style print --side 128 --count 30
  "$bin/examples/scenes" images "$OUT/photos" --style print --side 128 --count 8 --seed 1
  draws=(--draws 2 --timesteps 50,261,500 --warps 1)
fi
export PATH="$bin:$PATH"
shot=(extract --model "$MODEL" --img_size "${SIZE:-512}" --t 50 --layer configs/layers/quickstart.json --input_dir "$IMAGES"
  --use_original_filename --aggregate_output)
prompt=${PROMPT:-a photo of an animal, a car, a boat, a house, a teapot or a chair, sharp, high quality}
canny=${CONTROLNET:-lllyasviel/sd-controlnet-canny}

train --config "$recipe" --pretrained_model_name_or_path "$MODEL" --train_data_dir "$TRAIN" \
  --resolution "${SIZE:-512}" "${length[@]}" --output_dir "$OUT/lora" --output_name shapes --overwrite
convert diffusers "$OUT/lora/shapes.safetensors" --output "$OUT/lora/diffusers"
"${shot[@]}" --prompt "" --output_dir "$OUT/features/plain"
"${shot[@]}" --prompt "$prompt" --output_dir "$OUT/features/prompt"
"${shot[@]}" --prompt "$prompt" --control canny --controlnet-model "canny=$canny" --output_dir "$OUT/features/controlnet"
"${shot[@]}" --prompt "$prompt" --lora "$OUT/lora/diffusers/pytorch_lora_weights.safetensors" --output_dir "$OUT/features/lora"
extract pca "$OUT"/features/{plain,prompt,controlnet,lora} --output "$OUT/images" --images "$IMAGES"

cat >"$OUT/sets.toml" <<SETS
[[set]]
name = "plain"
layer = ["up-level0-upsampler-out", "up-level1-upsampler-out", "up-level2-upsampler-out"]
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
lora = ["$OUT/lora/shapes.safetensors"]
[[set]]
name = "all three"
prompt = "$prompt"
control = ["canny"]
lora = ["$OUT/lora/shapes.safetensors"]
SETS
extract score --config "$OUT/sets.toml" --model "$MODEL" --controlnet-model "canny=$canny" --img_size "${SIZE:-512}" --input_dir "$IMAGES" \
  "${draws[@]}" --output "$OUT/scores"
echo "$OUT/images shows the features, $OUT/scores/report.html how far they drift"
