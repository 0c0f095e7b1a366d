//! Model folders: entries of configurations beyond reason, files that are no files, damaged and poisoned weights, odd tokenizers.

use crate::case::{Case, Expected, Noise, SPECIAL, extract, good_images, special, words};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const GROUP: &str = "model folders";

const UNET: &str = "unet/config.json";
const VAE: &str = "vae/config.json";
const TEXT: &str = "text_encoder/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TOKENIZER: &str = "tokenizer/tokenizer_config.json";
const WEIGHTS: [&str; 3] =
    ["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"];

/// A copy of the miniature out of hard links, which [`replace`] breaks.
fn model(folder: &Path) -> PathBuf {
    let to = folder.join("model");
    copy(testkit::miniature(), &to);
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else if std::fs::hard_link(entry.path(), &place).is_err() {
            std::fs::copy(entry.path(), &place).unwrap();
        }
    }
}

fn replace(file: &Path, content: &[u8]) {
    let _ = std::fs::remove_file(file);
    std::fs::write(file, content).unwrap();
}

/// A model with one file changed by `change`, through a whole pass.
fn changed(
    name: String,
    expected: Expected,
    file: &'static str,
    change: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> Case {
    Case::new(GROUP, name, expected, move |folder| {
        let model = model(folder);
        let content = std::fs::read(model.join(file)).unwrap_or_default();
        replace(&model.join(file), &change(content));
        extract(folder, &model, &good_images(folder), &[])
    })
    .naming(file)
}

/// The same with one entry of a configuration; every other case only lists layers, which no weight file corrects.
fn entry(file: &'static str, key: &'static str, value: Value, number: usize) -> Case {
    let short: String = value.to_string().chars().take(40).collect();
    Case::new(GROUP, format!("{file}: {key} = {short}"), Expected::Handled, move |folder| {
        let model = model(folder);
        let mut config: Value = serde_json::from_slice(&std::fs::read(model.join(file)).unwrap()).unwrap();
        config[key] = value.clone();
        replace(&model.join(file), config.to_string().as_bytes());
        match number % 2 {
            1 if file == UNET => words(&["extract", "layers", "--model", model.to_str().unwrap()]),
            _ => extract(folder, &model, &good_images(folder), &[]),
        }
    })
    .naming(file)
}

fn configurations() -> Vec<Case> {
    let huge = 1u64 << 40;
    let values = || {
        vec![
            json!(0),
            json!(-1),
            json!(1_000_000_000),
            json!(huge),
            json!(u64::MAX),
            json!(0.5),
            json!("\u{1b}[31mred\u{9b}\u{202e}"),
            json!([huge, huge, huge, huge]),
            Value::Null,
        ]
    };
    let of: [(&str, &[&str]); 4] = [
        (
            UNET,
            &[
                "block_out_channels",
                "layers_per_block",
                "cross_attention_dim",
                "norm_num_groups",
                "norm_eps",
                "attention_head_dim",
                "transformer_layers_per_block",
                "in_channels",
                "down_block_types",
            ],
        ),
        (VAE, &["block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups", "scaling_factor"]),
        (TEXT, &["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "layer_norm_eps"]),
        (SCHEDULER, &["num_train_timesteps", "beta_end", "steps_offset", "_class_name"]),
    ];
    let keys = of.iter().flat_map(|(file, keys)| keys.iter().map(move |key| (*file, *key)));
    keys.flat_map(|(file, key)| values().into_iter().map(move |value| (file, key, value)))
        .enumerate()
        .map(|(number, (file, key, value))| entry(file, key, value, number))
        .collect()
}

fn special_files() -> Vec<Case> {
    let files = [UNET, TEXT, SCHEDULER, TOKENIZER, "model_index.json", "tokenizer/merges.txt", WEIGHTS[0], WEIGHTS[2]];
    let pairs = files.iter().flat_map(|file| SPECIAL.iter().map(move |kind| (*file, *kind)));
    let expected = |file: &str, kind: &str| match (file, kind) {
        // Not read by extract at all.
        ("model_index.json", _) => Expected::Handled,
        _ => Expected::Refused,
    };
    pairs
        .map(|(file, kind)| {
            Case::new(GROUP, format!("{kind} in the place of {file}"), expected(file, kind), move |folder| {
                let model = model(folder);
                special(&model.join(file), kind);
                extract(folder, &model, &good_images(folder), &[])
            })
            .naming(file)
        })
        .collect()
}

/// The first numbers of the first tensor's data, by a value.
fn poisoned(mut bytes: Vec<u8>, number: f32) -> Vec<u8> {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..][..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn weights() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut noise = Noise(0x5eed);
    for file in WEIGHTS {
        for number in [f32::NAN, f32::INFINITY] {
            // The autoencoder's first tensor is one of the decoder, which `extract` leaves in the file.
            let expected = if file == WEIGHTS[1] { Expected::Handled } else { Expected::Refused };
            cases.push(changed(format!("{number} in {file}"), expected, file, move |bytes| poisoned(bytes, number)));
        }
        cases.push(changed(format!("{file}, empty"), Expected::Refused, file, |_| Vec::new()));
        cases.push(changed(format!("{file}, a web page"), Expected::Refused, file, |_| b"<html></html>".to_vec()));
        cases.push(changed(format!("{file}, half"), Expected::Refused, file, |bytes| bytes[..bytes.len() / 2].to_vec()));
        for number in 0..6 {
            let at = noise.below(2000);
            cases.push(changed(format!("{file}, header changed, {number}"), Expected::Handled, file, move |mut bytes| {
                let end = bytes.len() - 1;
                bytes[at.min(end)] ^= 1 << (number % 8);
                bytes
            }));
        }
    }
    cases
}

fn tokenizers() -> Vec<Case> {
    let many = |count: usize, length: usize| {
        let tokens =
            (0..count).map(|id| (format!("{}", 60_000 + id), json!({ "content": format!("{}{id}", "a".repeat(length)) })));
        Value::Object(tokens.collect()).to_string()
    };
    let decoder = move |entries: String| format!("{{\"added_tokens_decoder\": {entries}}}").into_bytes();
    let long = "a".repeat(100_000);
    vec![
        changed("no merges".into(), Expected::Refused, "tokenizer/merges.txt", |_| Vec::new()),
        changed("merges of a version alone".into(), Expected::Refused, "tokenizer/merges.txt", |_| b"#version: 0.2\n".to_vec()),
        changed("merges of three".into(), Expected::Refused, "tokenizer/merges.txt", |_| b"#version\na b c\n".to_vec()),
        changed("no vocabulary".into(), Expected::Refused, "tokenizer/vocab.json", |_| b"{}".to_vec()),
        changed("a vocabulary of texts".into(), Expected::Refused, "tokenizer/vocab.json", |_| b"{\"a\": \"b\"}".to_vec()),
        // Older files beside it say what the token is.
        changed("a token without content".into(), Expected::Handled, TOKENIZER, |_| b"{\"pad_token\": {}}".to_vec()),
        changed("a negative length".into(), Expected::Refused, TOKENIZER, |_| b"{\"model_max_length\": -77}".to_vec()),
        changed("a length of 10^30".into(), Expected::Handled, TOKENIZER, |_| b"{\"model_max_length\": 1e30}".to_vec()),
        changed("a length of a million".into(), Expected::Refused, TOKENIZER, |_| b"{\"model_max_length\": 1000000}".to_vec())
            .naming("tokenizer_config.json"),
        changed("lists in lists".into(), Expected::Refused, TOKENIZER, |_| [b'['; 100_000].to_vec()),
        changed("tokens with escapes".into(), Expected::Handled, TOKENIZER, |_| {
            json!({"pad_token": "\u{1b}[2J\u{202e}\u{9b}"}).to_string().into_bytes()
        }),
        changed("6 MB of added tokens".into(), Expected::Refused, TOKENIZER, move |_| decoder(many(60, 100_000)))
            .naming("model/tokenizer"),
        Case::new(GROUP, "20,000 added tokens, a prompt of 100,000 characters", Expected::Handled, move |folder| {
            let model = model(folder);
            replace(&model.join(TOKENIZER), &decoder(many(20_000, 5)));
            std::fs::write(folder.join("prompt.txt"), &long).unwrap();
            extract(folder, &model, &good_images(folder), &["--prompt-file", "prompt.txt"])
        }),
    ]
}

fn damaged() -> Vec<Case> {
    let mut noise = Noise(0xda7a);
    let files = [UNET, VAE, TEXT, SCHEDULER, TOKENIZER, "model_index.json", "tokenizer/vocab.json", "tokenizer/merges.txt"];
    let numbers = (0..48).map(|number| (files[number % files.len()], noise.below(usize::MAX) as u64));
    numbers
        .map(|(file, seed)| {
            changed(format!("{file}, changed by {seed:x}"), Expected::Handled, file, move |mut bytes| {
                Noise(seed | 1).mutate(&mut bytes);
                bytes
            })
            // A size that its weights do not have is told of the weights beside it.
            .naming(file.split('/').next().unwrap_or(file))
        })
        .collect()
}

/// All of them.
pub fn cases() -> Vec<Case> {
    [configurations(), special_files(), weights(), tokenizers(), damaged()].into_iter().flatten().collect()
}
