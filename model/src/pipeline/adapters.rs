//! Adapter files onto the networks: reading, resolving paths, attaching with a strength.

use std::path::Path;

use super::Pipeline;
use crate::checkpoint::adapter_file::{AdapterFile, Network};
use crate::layers::Slots;
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
    /// Reads an adapter file and puts it onto UNet and text encoder at `strength`, beside adapters already there. States made
    /// before this are stale: encode prompts and make [`crate::unet::TextContext`]s anew.
    ///
    /// # Errors
    /// When the file is no adapter this crate understands, or one of its layers is not in the model; nothing is attached then.
    pub fn attach_adapter(&self, path: &Path, strength: f64) -> Result<AdapterReport> {
        let file = AdapterFile::open(path)?;
        let mut placed = Vec::new();
        let mut report = AdapterReport::default();
        for ((network, layer), adapter) in &file.entries {
            let (slots, count) = match network {
                Network::Unet => (self.unet.slots(), &mut report.unet),
                Network::TextEncoder => (self.text_encoder.slots(), &mut report.text_encoder),
            };
            let slot = find(slots, layer).ok_or_else(|| {
                Error::tensor(
                    path,
                    format!("{}.{layer}", network.name()),
                    "is for a layer that this model does not have; is it another architecture's?",
                )
            })?;
            placed.push((layer, slot, adapter.to_device(self.device())?.scaled(strength)));
            *count += 1;
        }
        // Sizes are checked for all before the first is attached, so that an error leaves the networks as they were.
        for (layer, slot, adapter) in &placed {
            slot.check(layer, adapter)
                .map_err(|error| Error::file(path, error.to_string(), "the adapter belongs to a model of other sizes"))?;
        }
        placed.into_iter().try_for_each(|(layer, slot, adapter)| slot.attach(layer, adapter))?;
        Ok(report)
    }

    /// Takes every adapter off UNet and text encoder.
    pub fn detach_adapters(&self) {
        self.unet.slots().detach_all();
        self.text_encoder.slots().detach_all();
    }
}

/// The slot at a path; text encoders are addressed with and without the leading `text_model.`.
fn find(slots: &Slots, path: &str) -> Option<std::sync::Arc<crate::layers::Slot>> {
    slots.get(path).or_else(|| slots.get(path.strip_prefix("text_model.")?)).or_else(|| slots.get(&format!("text_model.{path}")))
}
