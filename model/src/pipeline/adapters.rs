//! Adapter files onto the networks: reading, resolving paths, attaching with a strength.

use std::path::Path;

use super::Pipeline;
use crate::adapter::files::{AdapterFile, Network, files_at};
use crate::error::{ModelFileCause, TensorCause};
use crate::{Error, Result};

/// How many layers of each network an adapter file changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterReport {
    /// Layers of the UNet.
    pub unet: usize,
    /// Layers of the text encoder.
    pub text_encoder: usize,
}

impl Pipeline {
    /// Reads an adapter file, or the folder of one (diffusers', PEFT's, one with PEFT's for each network, or a training state), and puts it onto UNet and
    /// text encoder at `strength`, beside adapters already there. States made
    /// before this are stale: encode prompts and make [`crate::unet::TextContext`]s anew.
    ///
    /// # Errors
    /// When the file is no adapter this crate understands, or one of its layers is not in the model; nothing is attached then.
    pub fn attach_adapter(&self, path: &Path, strength: f64) -> Result<AdapterReport> {
        let files = files_at(path)?.into_iter().map(AdapterFile::open).collect::<Result<Vec<_>>>()?;
        let mut checked = Vec::new();
        let mut report = AdapterReport::default();
        for ((network, layer), adapter) in files.iter().flat_map(|file| &file.entries) {
            let (slots, count) = match network {
                Network::Unet => (self.unet.slots(), &mut report.unet),
                Network::TextEncoder => (self.text_encoder.slots(), &mut report.text_encoder),
                Network::Vae | Network::ControlNet => {
                    return Err(Error::tensor(path, format!("{network}.{layer}"), TensorCause::NetworkTakesNone));
                }
            };
            let slot = slots
                .get(layer)
                .ok_or_else(|| Error::tensor(path, format!("{}.{layer}", network.name()), TensorCause::NoSuchLayer))?;
            checked.push((layer, slot, adapter.to_device(self.device())?.scaled(strength)));
            *count += 1;
        }
        // Sizes are checked for all before the first is attached, so that an error leaves the networks as they were.
        for (layer, slot, adapter) in &checked {
            slot.check(layer, adapter).map_err(|error| {
                let cause = ModelFileCause::AdapterDoesNotFit { source: Box::new(error) };
                Error::file(path, cause, "the adapter belongs to a model of other sizes")
            })?;
        }
        checked.into_iter().try_for_each(|(layer, slot, adapter)| slot.attach(layer, adapter))?;
        Ok(report)
    }

    /// Takes every adapter off UNet and text encoder.
    pub fn detach_adapters(&self) {
        self.unet.slots().detach_all();
        self.text_encoder.slots().detach_all();
    }
}
