//! What a run tells, told on the terminal.

use std::sync::{Mutex, PoisonError};

use driftless_cli::{Console, Progress, Unit, interrupt};
use features::{Event, Observer};

/// Images, as progress counts them.
const IMAGES: Unit = Unit::new("image", "images");

/// `1 image`, `2 images`.
pub fn counted(images: usize) -> String {
    if images == 1 { "1 image".to_owned() } else { format!("{images} images") }
}

/// Tells on the terminal what the run tells.
pub struct Terminal<'a> {
    console: &'a Console,
    progress: Mutex<Option<Progress>>,
}

impl<'a> Terminal<'a> {
    /// On a console, with nothing begun.
    pub fn new(console: &'a Console) -> Self {
        Self { console, progress: Mutex::default() }
    }
}

impl Observer for Terminal<'_> {
    fn event(&self, event: Event<'_>) {
        // A progress has no broken intermediate state.
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Began { images } => *progress = Some(Progress::new(self.console, IMAGES, images)),
            Event::Advanced { images, failed } => {
                progress.iter().for_each(|progress| progress.advance_with_failures(images, failed));
            }
            Event::Wrote { image, layers } => self.console.detail(|| format!("{}: {layers} layers", image.display())),
            Event::Failed(problem) => self.console.error(problem),
            Event::Warning(problem) => self.console.warn(problem),
            Event::Ended => *progress = None,
        }
    }

    fn wants_stop(&self) -> bool {
        interrupt::requested()
    }
}
