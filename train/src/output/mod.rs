//! What a run leaves behind: names of files, and the metadata in them.

pub mod fingerprint;
pub mod metadata;
pub mod names;

pub use names::{Names, When};
