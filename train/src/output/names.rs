//! Names of the files that a run leaves, and which older ones go when a new one comes.
//!
//! Mirrors sd-scripts 48d368f `train_util.get_epoch_ckpt_name` and its siblings, `get_remove_epoch_no`, `get_remove_step_no`.

use crate::options::{OutputOptions, SaveFormat};
use std::path::PathBuf;

/// When a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// After so many epochs.
    Epoch(usize),
    /// After so many steps.
    Step(usize),
    /// At the end.
    End,
}

/// The names of one run.
#[derive(Debug, Clone)]
pub struct Names {
    folder: PathBuf,
    name: Option<String>,
    format: SaveFormat,
}

/// diffusers' customary file name.
const DIFFUSERS_FILE: &str = "pytorch_lora_weights.safetensors";

impl Names {
    /// The names that `options` ask for.
    pub fn new(options: &OutputOptions) -> Self {
        Self { folder: options.output_dir.clone(), name: options.output_name.clone(), format: options.save_model_as }
    }

    /// `NAME-000010`, `NAME-step00000500` or `NAME`; without a name `epoch`, `at` and `last` stand for it.
    fn stem(&self, when: When) -> String {
        let name = |default: &str| self.name.clone().unwrap_or_else(|| default.to_owned());
        match when {
            When::Epoch(epoch) => format!("{}-{epoch:06}", name("epoch")),
            When::Step(step) => format!("{}-step{step:08}", name("at")),
            When::End => name("last"),
        }
    }

    /// The adapter's file. In diffusers' layout it has a fixed name, so numbered ones stand in folders.
    pub fn adapter(&self, when: When) -> PathBuf {
        match (self.format, when) {
            (SaveFormat::Safetensors, _) => self.folder.join(format!("{}.safetensors", self.stem(when))),
            (SaveFormat::Diffusers, When::End) => self.folder.join(DIFFUSERS_FILE),
            (SaveFormat::Diffusers, _) => self.folder.join(self.stem(when)).join(DIFFUSERS_FILE),
        }
    }

    /// What is removed with the adapter of that time: its file, or the folder that holds it.
    pub fn adapter_to_remove(&self, when: When) -> PathBuf {
        match self.format {
            SaveFormat::Safetensors => self.adapter(when),
            SaveFormat::Diffusers => self.folder.join(self.stem(when)),
        }
    }

    /// The folder of a state.
    pub fn state(&self, when: When) -> PathBuf {
        self.folder.join(format!("{}-state", self.stem(when)))
    }

    /// The title for the metadata.
    pub fn title(&self) -> String {
        self.stem(When::End)
    }
}

/// The epoch whose file goes when that of `epoch` is written: the last `keep` files stay.
pub fn epoch_to_remove(epoch: usize, every: usize, keep: Option<usize>) -> Option<usize> {
    epoch.checked_sub(every.checked_mul(keep?)?).filter(|epoch| *epoch > 0)
}

/// The step whose file goes when that of `step` is written: files of the last `keep` steps stay.
pub fn step_to_remove(step: usize, every: usize, keep: Option<usize>) -> Option<usize> {
    let before = step.checked_sub(keep?)?;
    // The step written now is no candidate, even where kohya would remove it (keep 0).
    Some(before - before % every).filter(|remove| *remove > 0 && *remove < step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn names(arguments: &[&str]) -> Names {
        Names::new(&Options::of(arguments).output)
    }

    #[test]
    fn kohyas_numbering() {
        let named = names(&["--output_dir=o", "--output_name=a"]);
        let paths = [When::Epoch(10), When::Step(500), When::End].map(|when| named.adapter(when).display().to_string());
        assert_eq!(paths, ["o/a-000010.safetensors", "o/a-step00000500.safetensors", "o/a.safetensors"]);
        let unnamed = names(&["--output_dir=o"]);
        let paths = [When::Epoch(10), When::Step(500), When::End].map(|when| unnamed.adapter(when).display().to_string());
        assert_eq!(paths, ["o/epoch-000010.safetensors", "o/at-step00000500.safetensors", "o/last.safetensors"]);
        assert_eq!(named.state(When::Step(500)), PathBuf::from("o/a-step00000500-state"));
        assert_eq!(named.state(When::End), PathBuf::from("o/a-state"));
    }

    #[test]
    fn diffusers_layout() {
        let named = names(&["--output_dir=o", "--output_name=a", "--save_model_as=diffusers"]);
        assert_eq!(named.adapter(When::End), PathBuf::from("o/pytorch_lora_weights.safetensors"));
        assert_eq!(named.adapter(When::Epoch(2)), PathBuf::from("o/a-000002/pytorch_lora_weights.safetensors"));
        assert_eq!(named.adapter_to_remove(When::Epoch(2)), PathBuf::from("o/a-000002"));
    }

    #[test]
    fn older_files_go() {
        assert_eq!(epoch_to_remove(6, 2, Some(2)), Some(2));
        assert_eq!(epoch_to_remove(4, 2, Some(2)), None);
        assert_eq!(epoch_to_remove(6, 2, None), None);
        assert_eq!(step_to_remove(500, 100, Some(250)), Some(200));
        assert_eq!(step_to_remove(200, 100, Some(250)), None);
        assert_eq!(step_to_remove(200, 100, Some(0)), None);
    }
}
