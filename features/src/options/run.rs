//! The rows of a run, in the order of the help.

use std::str::FromStr;

use serde_json::json;

use super::facts::{device_name, dtype_name};
use super::{Flag, Given, RunIdentity, RunOption, Takes};
use crate::fault::Fault;
use RunIdentity::{Fixed, FixedIf, Irrelevant, MayChange, Within};

const MODEL: &str = "Model";
const WHAT: &str = "What to extract";
const PROMPT: &str = "Prompt and ControlNet";
const INPUT: &str = "Input";
const OUTPUT: &str = "Output";
const RUNNING: &str = "Running";

/// All options of a run.
pub const RUN_OPTIONS: &[RunOption] = &[
    RunOption {
        key: Some("model"),
        flag: Flag { alias: Some("pretrained-model-name-or-path"), ..Flag::new("model", "DIR|FILE|ID", Takes::One, MODEL) },
        doc: "Diffusers folder, checkpoint file or hub id [default: stable-diffusion-v1-5/stable-diffusion-v1-5]",
        identity: Within("`model` of each set, by the contents of its files"),
        read: |run, given| given.text().map(|model| run.model = Some(model)),
    },
    RunOption {
        key: Some("base"),
        flag: Flag::new("base", "DIR|ID", Takes::One, MODEL),
        doc: "For a checkpoint file: folder or hub id with its configurations and tokenizer [default: stable-diffusion-v1-5's]",
        identity: Within("`model` of each set, by the contents of its files"),
        read: |run, given| given.text().map(|base| run.base = Some(base)),
    },
    RunOption {
        key: Some("revision"),
        flag: Flag::new("revision", "REVISION", Takes::One, MODEL),
        doc: "Branch, tag or commit of a hub id [default: main]",
        identity: Within("`model` of each set, by the contents of its files"),
        read: |run, given| given.text().map(|revision| run.revision = Some(revision)),
    },
    RunOption {
        key: Some("unet"),
        flag: Flag::new("unet", "FILE|DIR", Takes::One, MODEL),
        doc: "UNet in the place of the model's, for instance CleanDIFT's cleandift_sd15_unet.safetensors: its weights in diffusers' or LDM \
              naming, or a folder of diffusers; a [[set]] with a `model` of its own takes that one's",
        identity: Within("`model` of each set, by the contents of its files"),
        read: |run, given| given.path().map(|unet| run.unet = Some(unet)),
    },
    RunOption {
        key: Some("dtype"),
        flag: Flag::new("dtype", "float32|float16|bfloat16", Takes::One, MODEL),
        doc: "Compute type [default: float16 on a GPU, float32 on a CPU]",
        identity: Fixed(|run| json!(dtype_name(run.dtype))),
        read: |run, given| given.text().map(|dtype| run.dtype = Some(dtype)),
    },
    RunOption {
        key: Some("device"),
        flag: Flag::new("device", "DEVICE", Takes::One, MODEL),
        doc: "auto, cpu, cuda, cuda:N or metal [default: auto]",
        identity: MayChange(|run| json!(device_name(run.device))),
        read: |run, given| given.text().map(|device| run.device = Some(device)),
    },
    RunOption {
        key: Some("version"),
        flag: Flag::new("version", "VERSION", Takes::One, MODEL),
        doc: "Version of Stable Diffusion, which is the model where --model names none: 1-5 or 2-1 [default: 1-5]",
        identity: Within("`model` of each set, by the contents of its files"),
        read: |run, given| given.text().map(|version| run.version = Some(version)),
    },
    RunOption {
        key: None,
        flag: Flag::new("offline-lora", "DIR", Takes::One, MODEL),
        doc: "Alone: a merged model (folder or checkpoint) that takes the model's place. With --offline-lora-filename: the folder of \
              an adapter",
        identity: Within("`model` or `lora` of each set, by the contents of its files"),
        read: |run, given| given.path().map(|path| run.command.offline_lora = Some(path)),
    },
    RunOption {
        key: None,
        flag: Flag::new("offline-lora-filename", "NAME", Takes::One, MODEL),
        doc: "The adapter's file in --offline-lora; used at full strength",
        identity: Within("`lora` of each set, by its contents"),
        read: |run, given| given.text().map(|name| run.command.offline_lora_filename = Some(name)),
    },
    RunOption {
        key: Some("input.img_size"),
        flag: Flag::new("img-size", "PIXELS", Takes::One, WHAT),
        doc: "Side in pixels to which images are resized [default: 512]",
        identity: Fixed(|run| json!(run.img_size)),
        read: |run, given| given.size(0..=u64::MAX).map(|side| run.input.img_size = Some(side)),
    },
    RunOption {
        key: Some("controlnet_model"),
        flag: Flag::new("controlnet-model", "KIND=DIR|ID", Takes::Each, PROMPT),
        doc: "Where a kind's ControlNet is [default: lllyasviel/sd-controlnet-canny, lllyasviel/sd-controlnet-depth]; repeatable",
        identity: Within("`control` of each set, by the contents of its files"),
        read: |run, given| given.named().map(|named| run.controlnet_model.extend(named)),
    },
    RunOption {
        key: Some("control_image_dir"),
        flag: Flag::new("control-image-dir", "KIND=DIR", Takes::Each, PROMPT),
        doc: "Ready-made condition images of a kind, NAME.png for the image NAME; repeatable",
        identity: Within("`conditions` of each image, by their contents"),
        read: |run, given| {
            let named = given.named()?.into_iter().map(|(kind, folder)| (kind, folder.into()));
            run.control_image_dir.extend(named);
            Ok(())
        },
    },
    RunOption {
        key: Some("input.images"),
        flag: Flag::new("input-dir", "PATTERN", Takes::Several, INPUT),
        doc: "Images: a pattern (data/**/*.jpg), a folder, a file, or several of these",
        identity: Within("`images`, one by one"),
        read: |run, given| given.paths().map(|paths| run.input.images = paths),
    },
    RunOption {
        key: Some("input.nested"),
        flag: Flag::new("nested-input-dir", "", Takes::Nothing, INPUT),
        doc: "Put the parent folder's name into the names of outputs",
        identity: Within("`name` of each image"),
        read: |run, given| given.switch().map(|nested| run.input.nested = nested),
    },
    RunOption {
        key: None,
        flag: Flag::new("shard", "I/N", Takes::One, INPUT),
        doc: "Part I of N (I from 0): every N-th batch of the images",
        identity: Irrelevant,
        read: |run, given| parsed(given).map(|shard| run.shard = Some(shard)),
    },
    RunOption {
        key: None,
        flag: Flag::new("config", "FILE.toml", Takes::One, INPUT),
        doc: "Several feature sets in one pass over the images",
        identity: Within("the records of what it says"),
        read: |run, given| given.path().map(|path| run.command.config = Some(path)),
    },
    RunOption {
        key: Some("output.dir"),
        flag: Flag::new("output-dir", "DIR", Takes::One, OUTPUT),
        doc: "Folder of the features [default: ./output/]",
        identity: Irrelevant,
        read: |run, given| given.path().map(|path| run.output.dir = Some(path)),
    },
    RunOption {
        key: Some("output.aggregate"),
        flag: Flag::new("aggregate-output", "", Takes::Nothing, OUTPUT),
        doc: "One file per image: all layers enlarged to the largest and joined over channels",
        identity: Fixed(|run| json!(run.output.aggregate)),
        read: |run, given| given.switch().map(|aggregate| run.output.aggregate = aggregate),
    },
    RunOption {
        key: Some("output.use_original_filename"),
        flag: Flag::new("use-original-filename", "", Takes::Nothing, OUTPUT),
        doc: "Name outputs after the image's file instead of SPLIT and number",
        identity: Within("`name` of each image"),
        read: |run, given| given.switch().map(|original| run.output.use_original_filename = original),
    },
    RunOption {
        key: Some("output.split"),
        flag: Flag::new("split", "NAME", Takes::One, OUTPUT),
        doc: "First part of numbered names [default: train]",
        identity: Within("`name` of each image"),
        read: |run, given| given.text().map(|split| run.output.split = Some(split)),
    },
    RunOption {
        key: Some("output.sample_name_first"),
        flag: Flag::new("sample-name-first", "", Takes::Nothing, OUTPUT),
        doc: "NAME/LAYER.npy instead of LAYER/NAME.npy",
        identity: Fixed(|run| json!(run.output.sample_name_first)),
        read: |run, given| given.switch().map(|first| run.output.sample_name_first = first),
    },
    RunOption {
        key: Some("output.dtype"),
        flag: Flag::new("output-dtype", "float16|float32", Takes::One, OUTPUT),
        doc: "Type of the numbers in files [default: float16]",
        identity: Fixed(|run| json!(dtype_name(run.output.dtype))),
        read: |run, given| parsed(given).map(|dtype| run.output.dtype = Some(dtype)),
    },
    RunOption {
        key: Some("output.format"),
        flag: Flag::new("output-format", "npy|safetensors", Takes::One, OUTPUT),
        doc: "npy: a file per layer; safetensors: a file per image [default: npy]",
        identity: Fixed(|run| json!(run.output.format.name())),
        read: |run, given| parsed(given).map(|format| run.output.format = Some(format)),
    },
    RunOption {
        key: Some("output.pca"),
        flag: Flag::new("pca", "FILE", Takes::One, OUTPUT),
        doc: "Write features projected on the bases that `extract pca FEATURES --fit FILE` made: [N, h, w] instead of [channels, h, w]. \
              Every layer has to be in the file, and none may be attention or vae-out",
        identity: FixedIf(|run| run.pca.map(|pca| json!(pca.contents))),
        read: |run, given| given.path().map(|pca| run.output.pca = Some(pca)),
    },
    RunOption {
        key: Some("output.pca_dims"),
        flag: Flag::new("pca-dims", "N", Takes::One, OUTPUT),
        doc: "The N of --pca: components that are written, those of largest variance first",
        identity: FixedIf(|run| run.pca.map(|pca| json!(pca.dims))),
        read: |run, given| given.size(1..=u64::MAX).map(|dims| run.output.pca_dims = Some(dims)),
    },
    RunOption {
        key: Some("output.overwrite"),
        flag: Flag::new("overwrite", "", Takes::Nothing, OUTPUT),
        doc: "Make images anew whose files are there already, also in the place of files that other settings made",
        identity: Irrelevant,
        read: |run, given| given.switch().map(|overwrite| run.output.overwrite = overwrite),
    },
    RunOption {
        key: None,
        flag: Flag::new("show-all-layers", "", Takes::Nothing, OUTPUT),
        doc: "List all layers with their shapes, write layer_record.json, extract nothing",
        identity: Irrelevant,
        read: |run, given| given.switch().map(|show| run.command.show_all_layers = show),
    },
    RunOption {
        key: Some("batch_size"),
        flag: Flag { short: Some('b'), ..Flag::new("batch-size", "N", Takes::One, RUNNING) },
        doc: "Images computed together [default: 2]",
        identity: MayChange(|run| json!(run.batch_size)),
        read: |run, given| given.size(0..=u64::MAX).map(|size| run.batch_size = Some(size)),
    },
    RunOption {
        key: Some("threads"),
        flag: Flag::new("threads", "N", Takes::One, RUNNING),
        doc: "Threads of the CPU [default: all]",
        identity: Irrelevant,
        read: |run, given| given.size(0..=u64::MAX).map(|threads| run.threads = Some(threads)),
    },
    RunOption {
        key: None,
        flag: Flag::new("timings", "FILE", Takes::One, RUNNING),
        doc: "Write how long each stage took, as JSON",
        identity: Irrelevant,
        read: |run, given| given.path().map(|path| run.command.timings = Some(path)),
    },
];

/// A value with a name or a form of its own, whose error says what there is.
fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(given: Given) -> Result<T, Fault> {
    given.text()?.parse().map_err(|error: T::Err| given.wrong_because(error))
}
