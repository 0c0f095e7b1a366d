//! Texts: configurations, layer lists, prompts, tables, captions, feature files and keys of weight files, with what no such text should hold.

use crate::case::{Case, Expected, SPECIAL, extract, fixture, good_images, special, words};
use std::path::Path;

const GROUP: &str = "texts";

/// Escapes, directions, and what a terminal would obey.
const RAW: &str = "\u{1b}[31mred\u{9b}2J\u{202e}\u{2066}\u{7}";

/// `extract` with a text in a file behind an option.
fn option(option: &'static str, name: &str, expected: Expected, text: impl Into<Vec<u8>>) -> Case {
    let text = text.into();
    Case::new(GROUP, format!("extract {option}: {name}"), expected, move |folder| {
        std::fs::write(folder.join("given"), &text).unwrap();
        extract(folder, testkit::miniature(), &good_images(folder), &[option, "given"])
    })
    .naming("given")
}

/// `train check` with a text in a file behind an option, over one picture.
fn train(option: &'static str, name: &str, expected: Expected, text: impl Into<Vec<u8>>) -> Case {
    let text = text.into();
    Case::new(GROUP, format!("train {option}: {name}"), expected, move |folder| {
        std::fs::write(folder.join("given.toml"), &text).unwrap();
        check(folder, &[option, "given.toml"])
    })
    .naming("given.toml")
}

fn check(folder: &Path, more: &[&str]) -> Vec<String> {
    let images = folder.join("data/1_cat");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::copy(fixture("rgb.png"), images.join("a.png")).unwrap();
    let model = testkit::miniature().to_str().unwrap();
    let mut arguments = words(&["train", "check", "--pretrained_model_name_or_path", model, "--output_dir", "out"]);
    if !more.contains(&"--dataset_config") {
        arguments.extend(words(&["--train_data_dir", "data"]));
    }
    arguments.extend(words(more));
    arguments
}

fn extract_options() -> Vec<Case> {
    let deep = "[".repeat(200_000);
    let ids = format!("[{}]", (0..20_000).map(|id| format!("\"no-layer-{id}\"")).collect::<Vec<_>>().join(","));
    vec![
        option("--layer", "escapes", Expected::Refused, serde_json::json!([RAW]).to_string()),
        option("--layer", "lists in lists", Expected::Refused, deep.clone()),
        option("--layer", "20,000 unknown ids", Expected::Refused, ids),
        option("--layer", "not UTF-8", Expected::Refused, [0xff, 0xfe, b'[', b']']),
        option("--layer", "nothing", Expected::Refused, ""),
        option("--layer", "numbers", Expected::Refused, "[1, 2]"),
        option("--layer", "nulls", Expected::Refused, "{\"unet-in\": null}"),
        option("--config", "escapes", Expected::Refused, format!("\"{RAW}\" = 1\n")),
        option("--config", "an unknown key", Expected::Refused, "\"\\u001b[31m\\u202e\" = 1\n"),
        option("--config", "lists in lists", Expected::Refused, format!("a = {deep}")),
        option("--config", "a table of another kind", Expected::Refused, "set = 5\n"),
        option("--config", "not UTF-8", Expected::Refused, [b'a', 0xff]),
        option("--config", "a set called as a file", Expected::Handled, "[[set]]\nname = \"failed.jsonl\"\n"),
        option("--config", "a set that leads out", Expected::Refused, "[[set]]\nname = \"../../evil\"\n"),
        option("--config", "a number beyond reason", Expected::Refused, "batch_size = 99999999999999999999\n"),
        option("--prompt-file", "escapes", Expected::Handled, RAW),
        option("--prompt-file", "not UTF-8", Expected::Refused, [0xff, 0xfe]),
        option("--prompt-file", "25,000 words", Expected::Handled, "cat ".repeat(25_000)),
        option("--prompt-file", "zeros", Expected::Handled, [0; 1000]),
        option("--prompt-csv", "escapes", Expected::Handled, format!("image,prompt\n{RAW},{RAW}\n")),
        option("--prompt-csv", "an open quotation", Expected::Refused, "image,prompt\n\"good.png,a cat\n"),
        option("--prompt-csv", "more columns than its head", Expected::Refused, "image,prompt\ngood.png,a,b,c\n"),
        option("--prompt-csv", "no columns", Expected::Refused, "a\nb\n"),
        option("--prompt-csv", "nothing", Expected::Refused, ""),
        option("--lora", "a text", Expected::Refused, "not weights"),
    ]
}

fn train_options() -> Vec<Case> {
    vec![
        train("--config_file", "escapes", Expected::Refused, format!("\"{RAW}\" = 1\n")),
        train("--config_file", "an unknown key", Expected::Refused, "\"\\u001b[31m\\u202e\" = 1\n"),
        train("--config_file", "a number beyond reason", Expected::Refused, "network_dim = 4611686018427387904\n")
            .naming("network_dim"),
        train("--config_file", "not a number", Expected::Refused, "learning_rate = nan\n"),
        train("--config_file", "a dropout that is none", Expected::Refused, "caption_dropout_rate = nan\n"),
        train("--config_file", "not UTF-8", Expected::Refused, [b'a', 0xff]),
        train("--config_file", "lists in lists", Expected::Refused, format!("a = {}", "[".repeat(100_000))),
        train("--dataset_config", "escapes", Expected::Refused, format!("\"{RAW}\" = 1\n")),
        train(
            "--dataset_config",
            "a subset of a file",
            Expected::Refused,
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir = \"given.toml\"\n",
        ),
        train(
            "--dataset_config",
            "repeats beyond reason",
            Expected::Refused,
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir = \"data/1_cat\"\nnum_repeats = 1000000000000\n",
        )
        .naming("data/1_cat"),
        train(
            "--dataset_config",
            "an extension that leads out",
            Expected::Refused,
            "[[datasets]]\n[[datasets.subsets]]\nimage_dir = \"data/1_cat\"\ncaption_extension = \"/../../../etc/passwd\"\n",
        )
        .naming("caption_extension"),
        train("--dataset_config", "nothing", Expected::Refused, ""),
        train("--sample_prompts", "escapes", Expected::Handled, format!("{RAW} --n {RAW}\n")),
        train("--sample_prompts", "an option without a value", Expected::Handled, "a cat --w\n"),
        train("--sample_prompts", "a size beyond reason", Expected::Handled, "a cat --w 99999999 --h 99999999\n"),
        Case::new(GROUP, "a folder of 1000000000 repeats", Expected::Refused, |folder| {
            let arguments = check(folder, &[]);
            std::fs::rename(folder.join("data/1_cat"), folder.join("data/1000000000000_cat")).unwrap();
            arguments
        }),
    ]
}

fn captions() -> Vec<Case> {
    let texts: [(&str, Vec<u8>); 5] = [
        ("escapes", RAW.as_bytes().to_vec()),
        ("not UTF-8", vec![0xff, 0xfe, 0x41]),
        ("a long line", vec![b'a'; 900_000]),
        ("commas", vec![b','; 100_000]),
        ("zeros", vec![0; 5000]),
    ];
    let texts = texts.map(|(name, text)| {
        Case::new(GROUP, format!("a caption: {name}"), Expected::Handled, move |folder| {
            let arguments = check(folder, &["--shuffle_caption"]);
            std::fs::write(folder.join("data/1_cat/a.txt"), &text).unwrap();
            arguments
        })
        .naming("a.txt")
    });
    let specials = SPECIAL.map(|kind| {
        Case::new(GROUP, format!("{kind} as a caption"), Expected::Handled, move |folder| {
            let arguments = check(folder, &[]);
            special(&folder.join("data/1_cat/a.txt"), kind);
            arguments
        })
        .naming("a.txt")
    });
    texts.into_iter().chain(specials).collect()
}

/// A safetensors file with this header and four bytes of data.
fn safetensors(header: &str) -> Vec<u8> {
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &[0; 4]].concat()
}

fn read(command: &'static [&'static str], name: &str, file: &'static str, bytes: Vec<u8>) -> Case {
    Case::new(GROUP, format!("{}: {name}", command.join(" ")), Expected::Handled, move |folder| {
        std::fs::write(folder.join(file), &bytes).unwrap();
        words(&[command, &[file]].concat())
    })
    .naming(file)
}

fn files() -> Vec<Case> {
    const INSPECT: &[&str] = &["convert", "inspect"];
    const PCA: &[&str] = &["extract", "pca", "--output", "out"];
    let escaped = "\\u001b[31m\\u009b\\u202e";
    let npy = |header: &str| {
        [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), &[0; 64]].concat()
    };
    vec![
        read(
            INSPECT,
            "a key of escapes",
            "a.safetensors",
            safetensors(&format!("{{\"{escaped}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}")),
        ),
        read(
            INSPECT,
            "metadata of escapes",
            "a.safetensors",
            safetensors(&format!(
                "{{\"__metadata__\":{{\"{escaped}\":\"{escaped}\"}},\"a\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}"
            )),
        ),
        read(
            INSPECT,
            "a type of escapes",
            "a.safetensors",
            safetensors(&format!("{{\"a\":{{\"dtype\":\"{escaped}\",\"shape\":[1],\"data_offsets\":[0,4]}}}}")),
        ),
        read(
            INSPECT,
            "tags of escapes",
            "a.safetensors",
            safetensors(&format!(
                "{{\"__metadata__\":{{\"ss_tag_frequency\":\"{{\\\"{}\\\": {{\\\"a\\\": 1}}}}\"}},\"a\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}",
                "\\\\u001b[31m"
            )),
        ),
        read(PCA, "a header of escapes", "a.npy", npy(&format!("{{'descr': '{RAW}', 'fortran_order': False, 'shape': (4,)}}\n"))),
        read(
            PCA,
            "a size beyond reason",
            "a.npy",
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}\n"),
        ),
        read(PCA, "no numbers", "a.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (4,)}\n")),
        read(PCA, "a header without an end", "a.npy", npy("{'descr': '<f4', 'shape': (((((((((((((((((")),
        read(PCA, "a text", "a.npy", b"text".to_vec()),
    ]
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let specials = SPECIAL.iter().flat_map(|kind| {
        ["--layer", "--config", "--prompt-file", "--prompt-csv", "--lora"].map(|option| {
            Case::new(GROUP, format!("extract {option} {kind}"), Expected::Refused, move |folder| {
                special(&folder.join("given"), kind);
                extract(folder, testkit::miniature(), &good_images(folder), &[option, "given"])
            })
            .naming("given")
        })
    });
    [extract_options(), train_options(), captions(), files()].into_iter().flatten().chain(specials).collect()
}
