//! The timestep of a pass: with the noise that belongs to it, or on clean latents.

use driftless::pipeline::NoiseLevel;
use serde_json::{Value, json};

use super::{Finite, PassKey};

/// The timestep of a pass, and which latents the network is shown at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timestep {
    /// Latents with the noise of this level, 0..=999.
    Noised(usize),
    /// Clean latents; the network is told this timestep, 0 to 999, which may be a fraction (CleanDIFT).
    Clean(Finite),
}

impl Timestep {
    /// The last of a model; the first is 0.
    pub const LAST: usize = 999;

    /// What the files of features are recorded under.
    pub fn record(self) -> Value {
        match self {
            Self::Noised(t) => json!(t),
            Self::Clean(t) => json!(t.get()),
        }
    }

    /// Whether no noise is added.
    pub fn is_clean(self) -> bool {
        match self {
            Self::Noised(_) => false,
            Self::Clean(_) => true,
        }
    }
}

/// Whether noise is added, as it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Noising {
    /// The noise of the timestep, drawn at random or by inversion.
    #[default]
    Added,
    /// None.
    None,
}

impl Noising {
    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::None => "none",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Added, Self::None].into_iter().find(|noising| noising.name() == name)
    }
}

impl PassKey {
    /// The noise of the pass.
    pub fn level(&self) -> NoiseLevel {
        match self.t {
            Timestep::Noised(t) => {
                let Self { denoising_from, use_ddim_inversion, .. } = *self;
                NoiseLevel::Noised { t, denoising_from, use_ddim_inversion }
            }
            Timestep::Clean(timestep) => NoiseLevel::Clean { timestep: timestep.get() },
        }
    }
}
