//! Images that could be read when the run started and no longer can: training goes on without them, up to a limit.

use super::fault::RunFault;
use crate::monitor::Console;
use crate::training::Unreadable;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The images that were left out of steps.
#[derive(Debug, Default)]
pub struct LeftOut {
    images: BTreeSet<PathBuf>,
    /// `--max_skipped_images`.
    most: usize,
}

impl LeftOut {
    /// For a run that goes on without `most` images.
    pub fn new(most: usize) -> Self {
        Self { images: BTreeSet::new(), most }
    }

    /// Records the images that step `step` left out, and warns of each once.
    ///
    /// # Errors
    /// When they have become too many.
    pub fn note(&mut self, unreadable: Vec<Unreadable>, step: usize, console: &Console) -> Result<(), RunFault> {
        for image in unreadable {
            if self.images.insert(image.path) {
                console.warn(format!("left out at step {step}, and whenever it cannot be read: {}", image.why));
            }
        }
        if self.images.len() <= self.most {
            return Ok(());
        }
        Err(RunFault::TooManyLeftOut { images: self.sentence(), most: self.most })
    }

    /// Lists at the end the images that were left out.
    pub fn list(&self, console: &Console) {
        if !self.images.is_empty() {
            console.warn(format!("some steps were done without them: {}", self.sentence()));
        }
    }

    fn sentence(&self) -> String {
        let names: Vec<String> = self.images.iter().map(|path| path.display().to_string()).collect();
        let images = if names.len() == 1 { "image" } else { "images" };
        format!("{} {images} can no longer be read ({})", names.len(), names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_cli::Logging;

    #[test]
    fn an_image_counts_once_and_too_many_end_the_run() {
        let console = Console::new(Logging::default());
        let image = |name: &str| vec![Unreadable { path: name.into(), why: format!("{name}: gone") }];
        let mut left_out = LeftOut::new(1);
        left_out.note(image("a.png"), 1, &console).unwrap();
        left_out.note(image("a.png"), 2, &console).unwrap();
        let message = left_out.note(image("b.png"), 3, &console).unwrap_err().to_string();
        assert!(message.starts_with("2 images can no longer be read (a.png, b.png)"), "{message}");
        assert!(LeftOut::new(0).note(image("a.png"), 1, &console).unwrap_err().to_string().starts_with("1 image can"));
    }
}
