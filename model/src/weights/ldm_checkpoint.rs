//! A whole SD1.5 checkpoint in LDM naming, as three networks under diffusers' names.

use super::component::Component;
use super::kind::{self, ModelKind, model_kind};
use crate::error::{Error, Result};
use crate::formats::WeightFile;
use crate::model_family::naming::ldm::{self, EMA_PREFIX, Part};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Which of two sets of UNet weights that a checkpoint may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnetWeights {
    /// Those that were trained last; every checkpoint has them.
    #[default]
    Trained,
    /// Their exponential moving average (`model_ema.*`).
    MovingAverage,
}

/// A checkpoint's networks. A network that the file lacks is empty.
#[derive(Debug, Clone)]
pub struct LdmCheckpoint {
    /// The noise predictor.
    pub unet: Component,
    /// The autoencoder.
    pub vae: Component,
    /// The text encoder.
    pub text_encoder: Component,
    /// Keys that are known and left out: constants of the noise schedule, moving averages, losses, counters.
    pub dropped: Vec<String>,
    /// Keys that are not understood.
    pub unknown: Vec<String>,
}

impl LdmCheckpoint {
    /// Opens a checkpoint file.
    ///
    /// # Errors
    /// Those of [`WeightFile::open`] and of [`LdmCheckpoint::from_weights`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_weights(Arc::new(WeightFile::open(path)?), UnetWeights::Trained)
    }

    /// Sorts an open file's keys by network.
    ///
    /// # Errors
    /// [`Error::File`] when the file is no SD1.x checkpoint, named as what it is, or lacks the moving averages that were asked
    /// for; [`Error::Tensor`] when a weight stands there under two spellings.
    pub fn from_weights(file: Arc<WeightFile>, unet_weights: UnetWeights) -> Result<Self> {
        match model_kind(&file) {
            ModelKind::LdmCheckpoint => {}
            ModelKind::Refused(what) => return Err(kind::refused(&file, what)),
            other => {
                let problem = format!("is {other}, not a whole checkpoint in LDM naming");
                return Err(Error::file(file.path(), problem, "give a Stable Diffusion 1.5 checkpoint"));
            }
        }
        let mut understood = BTreeSet::new();
        let mut component = |part| {
            let mut pairs = ldm::table(file.names(), part);
            understood.extend(pairs.iter().map(|(_, stored)| stored.clone()));
            if part == Part::Unet && unet_weights == UnetWeights::MovingAverage {
                take_averages(&file, &mut pairs)?;
            }
            Component::from_pairs(part, file.clone(), pairs)
        };
        let (unet, vae, text_encoder) = (component(Part::Unet)?, component(Part::Vae)?, component(Part::TextEncoder)?);
        let others = file.names().chain(file.not_tensors().map(|(key, _)| key)).filter(|key| !understood.contains(*key));
        let (dropped, unknown) = others.map(str::to_owned).partition(|key: &String| ldm::is_dropped(key));
        Ok(Self { unet, vae, text_encoder, dropped, unknown })
    }

    /// One of the networks.
    pub fn component(&self, part: Part) -> &Component {
        match part {
            Part::Unet => &self.unet,
            Part::Vae => &self.vae,
            Part::TextEncoder => &self.text_encoder,
        }
    }
}

/// Replaces the UNet's weights by their moving averages, all of which must be there.
fn take_averages(file: &WeightFile, pairs: &mut [(String, String)]) -> Result<()> {
    for (_, stored) in pairs {
        let average = ldm::ema_name(stored).filter(|average| file.contains(average));
        *stored = average.ok_or_else(|| {
            let problem = format!("has no moving average ({EMA_PREFIX}*) of `{stored}`");
            Error::file(file.path(), problem, "convert it without moving averages")
        })?;
    }
    Ok(())
}
