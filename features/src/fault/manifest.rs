//! Why a run may not write into a folder.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::path::PathBuf;

/// The name of the record in an output folder.
pub const MANIFEST: &str = "extract.json";

/// What to do instead.
const ADVICE: &str = "give another --output-dir, or make them anew with --overwrite";

/// What is wrong with the contents of an output folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFault {
    /// `differences` are lines with a line break before each.
    #[error("holds features of other settings; {ADVICE}:{differences}")]
    OtherSettings { differences: String },
    /// Of a file that is there.
    #[error("there is no {MANIFEST} that says which settings made it; {ADVICE}")]
    NoManifest,
    #[error("{0}; {ADVICE}")]
    Unusable(#[from] Unusable),
    #[error(
        "another run is writing into this folder with other settings; wait for its end; if there is none, remove {}",
        sign.display()
    )]
    Company { sign: PathBuf },
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] driftless::Error),
    /// It is not a manifest.
    #[error("is not what driftless wrote ({0})")]
    Damaged(#[from] serde_json::Error),
    /// A later program wrote it.
    #[error("has form {found}, this program knows form {known}")]
    Format {
        /// What it says.
        found: u32,
        /// What is known.
        known: u32,
    },
}
