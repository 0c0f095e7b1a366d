//! One network's weights under the names and shapes of today's diffusers and transformers, whatever the file calls them.

use super::folder;
use crate::error::{Error, ModelFileCause, Result, TensorCause};
use crate::formats::{TensorInfo, WeightFile, require_finite, shown};
use crate::layers::{TensorSource, missing_tensor};
use crate::model_family::naming::ldm::{self, Packing, Renaming, VAE_PREFIX};
use crate::model_family::naming::{text_encoder, vae_attention};
use crate::model_family::recognition::{ModelKind, model_kind};
use crate::model_family::{FAMILIES, ModelFamily, Network, recognition, refused};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A name that an autoencoder alone has in diffusers' naming and not in LDM's; both have most others in common.
const DIFFUSERS_VAE: &str = "encoder.conv_norm_out.weight";

/// A view of a weight file: diffusers names, each with the stored tensor that it is, or that it is packed in.
#[derive(Debug, Clone)]
pub struct Component {
    network: Network,
    file: Arc<WeightFile>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    stored: String,
    packing: Packing,
    info: TensorInfo,
}

impl Component {
    /// Opens a network's own folder by its usual file names: safetensors, its `fp16` variant, a sharded index, or torch's `.bin`;
    /// of both precisions the half one first with `prefer_half`.
    ///
    /// # Errors
    /// [`Error::File`] when none of them is there, and those of [`WeightFile::open`].
    pub fn open(network: Network, folder: &Path, prefer_half: bool) -> Result<Self> {
        Self::from_diffusers(network, Arc::new(folder::open(folder, network, prefer_half)?))
    }

    /// Opens one network of a file: of a checkpoint in LDM naming, of a network alone in diffusers' naming, or of an autoencoder
    /// alone in LDM naming, which goes without its prefix then.
    ///
    /// # Errors
    /// [`Error::File`] when the file does not hold the network, and those of [`WeightFile::open`].
    pub fn open_file(network: Network, path: &Path) -> Result<Self> {
        let file = Arc::new(WeightFile::open(path)?);
        let component = match model_kind(&file) {
            ModelKind::Refused(kind) => return Err(refused::error(&file, kind)),
            ModelKind::LdmCheckpoint(family) => {
                let table = ldm::table(file.names(), family, network);
                Self::from_table(network, file.clone(), table)?
            }
            ModelKind::Component(Network::Vae) if network == Network::Vae && !file.contains(DIFFUSERS_VAE) => {
                Self::from_table(network, file.clone(), vae_without_prefix(&file))?
            }
            ModelKind::Component(found) if found == network => Self::from_diffusers(network, file.clone())?,
            ModelKind::Component(_) | ModelKind::Empty | ModelKind::Unknown => {
                Self::from_table(network, file.clone(), Vec::new())?
            }
        };
        if component.is_empty() {
            let cause = ModelFileCause::NoNetwork { network: network.name() };
            return Err(Error::file(path, cause, "`convert inspect` says what the file is"));
        }
        Ok(component)
    }

    /// A view of one network in diffusers' naming. Older spellings of the VAE's attention layer and text encoders without the
    /// `text_model.` level are understood; lists of positions are left out.
    ///
    /// # Errors
    /// [`Error::Tensor`] when a weight stands there under two spellings.
    pub fn from_diffusers(network: Network, file: Arc<WeightFile>) -> Result<Self> {
        let current = |name: &str| match network {
            Network::Unet | Network::ControlNet => name.to_owned(),
            Network::Vae => vae_attention::to_current(name),
            Network::TextEncoder => text_encoder::with_level(name),
        };
        let names = file.names().filter(|name| !text_encoder::is_position_ids(name));
        let whole = |name: &str| Renaming { name: current(name), stored: name.to_owned(), packing: Packing::Whole };
        let table = names.map(whole).collect();
        Self::from_table(network, file, table)
    }

    /// A view by a table of names, all of which exist in the file.
    pub(super) fn from_table(network: Network, file: Arc<WeightFile>, table: Vec<Renaming>) -> Result<Self> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for Renaming { name, stored, packing } in table {
            let Some(info) = file.info(&stored) else {
                return Err(Error::tensor(file.path(), shown(&stored), TensorCause::Missing));
            };
            let info = view(&file, network, &name, &stored, packing, info)?;
            if let Some(other) = entries.get(&name) {
                let cause = TensorCause::TwoNames { other: shown(&other.stored), name: shown(&name) };
                return Err(Error::tensor(file.path(), shown(&stored), cause));
            }
            entries.insert(name, Entry { stored, packing, info });
        }
        Ok(Self { network, file, entries })
    }

    /// Which network this is.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The family of a UNet or ControlNet, by its shapes; others are not told apart by them.
    pub fn family(&self) -> Option<&'static ModelFamily> {
        recognition::of_shapes(&self.file)
    }

    /// The file behind.
    pub fn file(&self) -> &Arc<WeightFile> {
        &self.file
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All diffusers names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.entries.keys().map(String::as_str)
    }

    /// Type and shape of a weight: the shape that diffusers has, so two-dimensional for the VAE's attention.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.entries.get(name).map(|entry| &entry.info)
    }

    /// What the file calls a weight.
    pub fn stored_name(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|entry| entry.stored.as_str())
    }

    /// Reads a weight in its stored type.
    ///
    /// # Errors
    /// As [`WeightFile::tensor`].
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let entry = self.entries.get(name).ok_or_else(|| missing_tensor(self.file.path(), name))?;
        let stored = self.file.tensor(&entry.stored, device)?;
        let tensor = match entry.packing {
            Packing::Whole => stored,
            Packing::Third(third) => stored.narrow(0, third * entry.info.shape[0], entry.info.shape[0])?.contiguous()?,
        };
        Ok(tensor.reshape(entry.info.shape.as_slice())?)
    }
}

impl TensorSource for Component {
    /// The weight, all of whose numbers are finite: one that is not would be in every number that is computed, hours later.
    fn tensor(&self, name: &str, _shape: &[usize], device: &Device) -> Result<Tensor> {
        let tensor = Self::tensor(self, name, &Device::Cpu)?;
        require_finite(&tensor).map_err(|cause| Error::tensor(self.file.path(), name, cause))?;
        Ok(tensor.to_device(device)?)
    }

    fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }
}

/// Type and shape of a weight as diffusers has it.
fn view(
    file: &WeightFile,
    network: Network,
    name: &str,
    stored: &str,
    packing: Packing,
    info: &TensorInfo,
) -> Result<TensorInfo> {
    let mut info = info.clone();
    match packing {
        Packing::Third(_) => match info.shape.first_mut() {
            Some(rows) if *rows > 0 && rows.is_multiple_of(3) => *rows /= 3,
            Some(_) | None => {
                let cause = TensorCause::NotPacked { found: info.shape.clone() };
                return Err(Error::tensor(file.path(), shown(stored), cause));
            }
        },
        Packing::Whole => {
            let ones = info.shape[2.min(info.shape.len())..].iter().all(|side| *side == 1);
            if network == Network::Vae && vae_attention::is_projection_weight(name) && ones {
                info.shape.truncate(2);
            }
        }
    }
    Ok(info)
}

/// The table of an autoencoder alone in LDM naming, which goes without the prefix that it has in a checkpoint.
fn vae_without_prefix(file: &WeightFile) -> Vec<Renaming> {
    let prefixed: Vec<String> = file.names().map(|name| format!("{VAE_PREFIX}{name}")).collect();
    // The autoencoder's names are the same in every family.
    let table = ldm::table(prefixed.iter().map(String::as_str), FAMILIES[0], Network::Vae);
    table.into_iter().map(|one| Renaming { stored: one.stored[VAE_PREFIX.len()..].to_owned(), ..one }).collect()
}
