//! What keeps a run from starting, and what ends one early.

use super::keep::Kept;
use super::memory::shown;
use driftless_cli::failure::sentence;
use std::path::PathBuf;

/// Why a run cannot start, or does not end as planned.
#[derive(Debug, thiserror::Error)]
pub enum RunFault {
    #[error("the run cannot be planned")]
    NotPlanned,
    #[error("--save_state and --resume need an optimizer that tells its state: --optimizer_type AdamW")]
    NoState,
    #[error(
        "{} is there already; give another --output_name or --output_dir, --resume with a state to train it further, or --overwrite",
        adapter.display()
    )]
    Finished { adapter: PathBuf },
    #[error("--seed is {found}, but the state to resume is of seed {expected}; leave --seed out")]
    OtherSeed { expected: u64, found: u64 },
    #[error("{} is not a folder", path.display())]
    NotAFolder { path: PathBuf },
    #[error("--output_dir {}: another run is writing there", folder.display())]
    InUse { folder: PathBuf },
    #[error(
        "--network_dim {rank}: an adapter of that rank takes about {} with its optimizer, and this machine has {}; ranks up to 128 are \
         usual",
        shown(*needed),
        shown(*there)
    )]
    TooLarge { rank: usize, needed: usize, there: usize },

    /// `images` says how many and which.
    #[error("{images}, which is more than --max_skipped_images {most}; put them back, or leave them out of the data set")]
    TooManyLeftOut { images: String, most: usize },
    #[error("interrupted: {done}; {kept}")]
    NotKept { done: String, kept: Kept },
    /// `spoilt` is the base model's weight that is not finite, where that was the reason.
    #[error("{}{}; {kept}", sentence(error.as_ref()), because_of(spoilt.as_deref()))]
    Ended { error: anyhow::Error, spoilt: Option<String>, kept: Kept },
}

fn because_of(weight: Option<&str>) -> String {
    weight.map_or_else(String::new, |weight| format!("; the base model's `{weight}` holds what is no number"))
}
