//! What the tests of the `train` binary share: a model, a scratch folder with images, and the command. Each test program uses a part of it.
#![allow(dead_code)]

use driftless::miniature::write_dataset;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use testkit::{message, miniature};

/// A data set of four images in three caption groups, and a scratch folder for output.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self::of(4, 64)
    }

    /// The same with `count` images of `side` pixels.
    pub fn of(count: u64, side: usize) -> Self {
        let folder = TempDir::new().unwrap();
        write_dataset(&folder.path().join("data"), count, side).unwrap();
        // One draw per image and epoch, so that runs are short.
        for group in ["empty", "wd", "kosmos"] {
            let data = folder.path().join("data");
            std::fs::rename(data.join(format!("10_{group}")), data.join(format!("1_{group}"))).unwrap();
        }
        Self(folder)
    }

    /// Training with the settings of a fixture that torch's losses were taken at; `more` are options with their keys there.
    pub fn command_of_fixture(&self, model: &Path, fixture: &serde_json::Value, more: &[(&str, &str)]) -> Command {
        let mut command = train();
        command
            .arg("--model")
            .arg(model)
            .arg("--train_data_dir")
            .arg(self.path("data"))
            .arg("--output_dir")
            .arg(self.path("out"));
        let common = [
            ("--seed", "seed"),
            ("--max_train_steps", "steps"),
            ("--train_batch_size", "batch"),
            ("--unet_lr", "unet_lr"),
            ("--max_grad_norm", "max_grad_norm"),
            ("--lr_warmup_steps", "warmup"),
        ];
        for (option, key) in common.iter().chain(more) {
            command.arg(option).arg(fixture["settings"][key].to_string());
        }
        command
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The options that every run needs.
    pub fn command(&self, output: &str) -> Command {
        let mut command = train();
        command.arg("--pretrained_model_name_or_path").arg(miniature());
        command.arg("--train_data_dir").arg(self.path("data")).arg("--output_dir").arg(self.path(output));
        command.args(
            "--resolution 64 --network_dim 4 --network_alpha 2 --learning_rate 1e-2 --seed 3 --output_name a --device cpu"
                .split(' '),
        );
        command.args("--train_batch_size 3 --threads 2".split(' '));
        command
    }
}

pub fn train() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    // No test may ask a hub.
    command.env("HF_HUB_OFFLINE", "1");
    command
}

pub fn words(command: &mut Command, line: &str) -> Output {
    command.args(line.split_whitespace()).output().unwrap()
}

pub fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", message(output));
}

#[track_caller]
pub fn assert_fails(output: &Output, status: i32, expected: &[&str]) {
    let message = message(output);
    assert_eq!(output.status.code(), Some(status), "{message}");
    let errors = message.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "one error in: {message}");
    for part in expected {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

pub fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
