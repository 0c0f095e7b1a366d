//! What was asked for, and what is wrong with it.

use features::fault::{Fault, FaultCause, Faults};
use features::set::Timestep;
use serde::{Deserialize, Serialize};

/// Draws, timesteps and warps that a run takes at most.
const MOST: usize = 10_000;

/// What is scored. Every field decides the lines of an image and is recorded with them under its name, but for the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftSettings {
    /// Draws of the noise per image, 2 or more.
    pub draws: usize,
    /// Timesteps at which sets with noise are taken, 0..=999 each, in the place of their own.
    pub timesteps: Vec<usize>,
    /// Known warps per image.
    pub warps: usize,
    /// Whether what the network imagines is decoded and compared as an image, too.
    pub decode: bool,
    /// The set whose features at t = 0 are the reference; the first where none is named.
    pub reference: Option<String>,
    /// Images that the report shows.
    #[serde(skip)]
    pub shown_images: usize,
}

/// What is wrong with a request for scores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShiftFault {
    /// Nothing could be compared.
    #[error("--draws {found}: draw_consistency compares draws of the noise: give 2 to {MOST}")]
    Draws {
        /// What was given.
        found: usize,
    },
    /// Too many.
    #[error("--warps {found}: give 0 to {MOST}")]
    Warps {
        /// What was given.
        found: usize,
    },
    /// No timestep of a model.
    #[error("--timesteps {found}: give timesteps of 0 to {}", Timestep::LAST)]
    Timestep {
        /// What was given.
        found: usize,
    },
    /// None, or one of them twice.
    #[error("--timesteps: give one timestep or more, each once")]
    Timesteps,
    /// A reference that is no set.
    #[error("--reference {found}: there is no such set; expected one of {}", known.join(", "))]
    Reference {
        /// What was given.
        found: String,
        /// The sets.
        known: Vec<String>,
    },
    /// Sets that are made of others.
    #[error("set `{set}` is made of others; scores are of sets that are extracted: leave it out")]
    Fused {
        /// The set.
        set: String,
    },
    /// Sets that keep different things.
    #[error(
        "sets `{}` and `{}` have different {difference}; scores compare sets layer by layer: give all the same",
        sets[0],
        sets[1]
    )]
    Unequal {
        /// The sets.
        sets: [String; 2],
        /// What differs.
        difference: &'static str,
    },
    /// Scores of other settings.
    #[error(
        "holds scores of other settings:{differences}\nwrite into another folder, or use --overwrite to make all scores anew"
    )]
    OtherSettings {
        /// Lines.
        differences: String,
    },
    /// Features or anything else under the name of the record.
    #[error("is not what driftless wrote ({cause}); write into another folder, or use --overwrite")]
    NoRecord {
        /// Why not.
        cause: serde_json::Error,
    },
    /// Another run.
    #[error("another run is writing there; wait for it, or write into another folder")]
    Company,
    /// One folder has one draw.
    #[error(
        "--features: {found} folder; draw_consistency compares draws of the noise: give a folder for each of two draws or more"
    )]
    OneFolder {
        /// How many.
        found: usize,
    },
    /// A draw that lacks a feature of the others.
    #[error("has no `{feature}`, which {} has; extract all draws with the same layers and images", other.display())]
    Lacks {
        /// Its name.
        feature: String,
        /// A draw that has it.
        other: std::path::PathBuf,
    },
}

impl From<ShiftFault> for FaultCause {
    fn from(fault: ShiftFault) -> Self {
        Self::above(fault)
    }
}

impl ShiftSettings {
    /// Everything that is wrong with the numbers.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let mut faults = Faults::default();
        faults.require((2..=MOST).contains(&self.draws), || Fault::usage(ShiftFault::Draws { found: self.draws }));
        faults.require(self.warps <= MOST, || Fault::usage(ShiftFault::Warps { found: self.warps }));
        for &found in self.timesteps.iter().filter(|timestep| **timestep > Timestep::LAST) {
            faults.push(Fault::usage(ShiftFault::Timestep { found }));
        }
        let is_repeated = |place: usize| self.timesteps[..place].contains(&self.timesteps[place]);
        let is_list = !self.timesteps.is_empty() && !(0..self.timesteps.len()).any(is_repeated);
        faults.require(is_list, || Fault::usage(ShiftFault::Timesteps));
        faults.check()
    }

    /// The timestep at which images are shown: the one in the middle of the list.
    pub(super) fn shown_timestep(&self) -> usize {
        self.timesteps.get(self.timesteps.len() / 2).copied().unwrap_or_default()
    }
}
