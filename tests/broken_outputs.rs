//! Every command with its standard output or standard error at a pipe that nobody reads or a disk that is full: its work is done all the
//! same, and a printed result that is lost is one error. (Help, lists and manual pages are in `program.rs`.)
#![cfg(target_os = "linux")]

use driftless::miniature::{write_dataset, write_images};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use testkit::{message, miniature};

/// Where an output leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Test,
    ClosedPipe,
    FullDisk,
}

impl To {
    fn stdio(self) -> Stdio {
        match self {
            Self::Test => Stdio::piped(),
            Self::ClosedPipe => std::io::pipe().unwrap().1.into(),
            Self::FullDisk => File::options().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

/// Runs a line of words in a folder; `MODEL` and `OUT` stand for the miniature and the name of the output.
fn run(folder: &Path, line: &str, out: &str, stdout: To, stderr: To) -> Output {
    let words = line.split_whitespace().map(|word| match word {
        "MODEL" => miniature().display().to_string(),
        word => word.replace("OUT", out),
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftless"));
    command.args(words).current_dir(folder).env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
    command.stdout(stdout.stdio()).stderr(stderr.stdio()).output().unwrap()
}

/// Each command that computes or reads, in an order in which later ones find what earlier ones made.
const COMMANDS: [&str; 13] = [
    "extract --model MODEL --input_dir in --img_size 64 --t 50 --layer layers.json --prompt cat --output_dir OUT-features",
    "extract layers --model MODEL --img_size 64",
    "extract generate --model MODEL --prompt cat --steps 2 --at_steps 1 --height 64 --width 64 --layer layers.json --output_dir OUT-generated",
    "extract pca plain-features/up-level1-upsampler-out --output OUT-images",
    "train --model MODEL --train_data_dir data --resolution 64 --network_dim 2 --max_train_steps 1 --seed 1 --output_name a --output_dir OUT-run",
    "train check --model MODEL --train_data_dir data --resolution 64 --network_dim 2 --max_train_steps 1 --seed 1 --output_dir OUT-run",
    "convert inspect plain-run/a.safetensors",
    "convert diffusers plain-run/a.safetensors --output OUT-diffusers.safetensors",
    "convert kohya plain-diffusers.safetensors --output OUT-kohya.safetensors",
    "convert peft plain-run/a.safetensors --output OUT-peft",
    "convert merge plain-run/a.safetensors --base MODEL --output OUT-merged",
    "convert ckpt plain-merged --output OUT.ckpt",
    "convert extract-lora plain-merged --base MODEL --rank 2 --output OUT-lora.safetensors",
];

#[test]
fn no_output_that_is_lost_stops_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_images(&here.join("in"), 0, 2, 64).unwrap();
    write_dataset(&here.join("data"), 1, 64).unwrap();
    std::fs::write(here.join("layers.json"), r#"["up-level1-upsampler-out"]"#).unwrap();
    let made = |out: &str| -> Vec<String> {
        testkit::names(here).iter().filter_map(|name| name.strip_prefix(out).map(str::to_owned)).collect()
    };
    for line in COMMANDS {
        let plain = run(here, line, "plain", To::Test, To::Test);
        assert_eq!(plain.status.code(), Some(0), "{line}: {}", message(&plain));
        let (prints, expected) = (!plain.stdout.is_empty(), made("plain"));
        for (number, (stdout, stderr)) in [
            (To::ClosedPipe, To::Test),
            (To::FullDisk, To::Test),
            (To::Test, To::ClosedPipe),
            (To::Test, To::FullDisk),
            (To::ClosedPipe, To::ClosedPipe),
        ]
        .into_iter()
        .enumerate()
        {
            let out = format!("broken{number}");
            let output = run(here, line, &out, stdout, stderr);
            let (told, what) = (message(&output), format!("{line}, {stdout:?}, {stderr:?}"));
            let is_lost = prints && stdout == To::FullDisk;
            assert_eq!(output.status.code(), Some(i32::from(is_lost)), "{what}: {told}");
            assert_eq!(told.matches("error: ").count(), usize::from(is_lost), "{what}: {told}");
            assert!(!is_lost || told.contains("error: standard output: "), "{what}: {told}");
            assert_eq!(made(&out), expected, "{what}");
        }
    }
}
