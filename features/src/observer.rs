//! What a run reports while it works, and what it asks: a library prints nothing.

use std::path::Path;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// One model's networks are loaded and its images begin.
    Began {
        /// How many.
        images: usize,
    },
    /// Some images are done.
    Advanced {
        /// How many.
        images: usize,
        /// How many of them have no features.
        failed: usize,
    },
    /// One image's features of a set are written.
    Wrote {
        /// The image.
        image: &'a Path,
        /// Its layers.
        layers: usize,
    },
    /// An image failed and is listed.
    Failed(&'a str),
    /// Something that is probably not intended.
    Warning(&'a str),
    /// One model's images are done.
    Ended,
}

/// An observer of a run. Its methods are called from several threads.
pub trait Observer: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);

    /// Whether the run is to stop after the current images.
    fn wants_stop(&self) -> bool {
        false
    }
}

/// Ignores everything and never stops a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}
