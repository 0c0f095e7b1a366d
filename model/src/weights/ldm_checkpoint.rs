//! A whole checkpoint in LDM naming, as three networks under diffusers' names.

use super::component::Component;
use crate::error::{Error, ModelFileCause, Result};
use crate::formats::WeightFile;
use crate::model_family::naming::ldm::{self, EMA_PREFIX, Renaming};
use crate::model_family::recognition::{ModelKind, model_kind};
use crate::model_family::{ModelFamily, Network, refused};
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
    /// What it is a model of.
    pub family: &'static ModelFamily,
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
    /// [`Error::File`] when the file is no checkpoint of a supported family, named as what it is, or lacks the moving averages that were asked
    /// for; [`Error::Tensor`] when a weight stands there under two spellings.
    pub fn from_weights(file: Arc<WeightFile>, unet_weights: UnetWeights) -> Result<Self> {
        let family = match model_kind(&file) {
            ModelKind::LdmCheckpoint(family) => family,
            ModelKind::Refused(kind) => return Err(refused::error(&file, kind)),
            other @ (ModelKind::Component(_) | ModelKind::Empty | ModelKind::Unknown) => {
                let cause = ModelFileCause::NotAnLdmCheckpoint { kind: other.to_string() };
                return Err(Error::file(file.path(), cause, format!("give a {} checkpoint", ModelFamily::all_names())));
            }
        };
        let mut understood = BTreeSet::new();
        let mut component = |network| {
            let mut table = ldm::table(file.names(), family, network);
            understood.extend(table.iter().map(|renaming| renaming.stored.clone()));
            if network == Network::Unet && unet_weights == UnetWeights::MovingAverage {
                take_averages(&file, &mut table)?;
            }
            Component::from_table(network, file.clone(), table)
        };
        let unet = component(Network::Unet)?;
        let (vae, text_encoder) = (component(Network::Vae)?, component(Network::TextEncoder)?);
        let unused: BTreeSet<String> = ldm::unused(file.names(), family).into_iter().collect();
        let others = file.names().chain(file.not_tensors().map(|(key, _)| key)).filter(|key| !understood.contains(*key));
        let is_dropped = |key: &String| ldm::is_dropped(key) || unused.contains(key);
        let (dropped, unknown) = others.map(str::to_owned).partition(is_dropped);
        Ok(Self { family, unet, vae, text_encoder, dropped, unknown })
    }

    /// One of the networks; a ControlNet is in no checkpoint.
    pub fn component(&self, network: Network) -> Option<&Component> {
        match network {
            Network::Unet => Some(&self.unet),
            Network::Vae => Some(&self.vae),
            Network::TextEncoder => Some(&self.text_encoder),
            Network::ControlNet => None,
        }
    }
}

/// Replaces the UNet's weights by their moving averages, all of which must be there.
fn take_averages(file: &WeightFile, table: &mut [Renaming]) -> Result<()> {
    for Renaming { stored, .. } in table {
        let average = ldm::ema_name(stored).filter(|average| file.contains(average));
        *stored = average.ok_or_else(|| {
            let cause = ModelFileCause::NoMovingAverage { prefix: EMA_PREFIX, key: stored.clone() };
            Error::file(file.path(), cause, "convert it without moving averages")
        })?;
    }
    Ok(())
}
