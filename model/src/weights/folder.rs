//! Which file of a network's folder holds its weights (diffusers 0.32 `modeling_utils.py`, transformers 4.49 `_add_variant`).

use crate::error::{Error, ModelFileCause, Result};
use crate::formats::WeightFile;
use crate::model_family::Network;
use std::path::Path;

/// Names of weight files for a network, best first: safetensors before pickles, one file before shards, and of full and half
/// precision the one that is preferred first.
fn names(network: Network, prefer_half: bool) -> impl Iterator<Item = String> {
    let (stem, pickle) = (network.stem(), network.pickle_stem());
    let full = vec![format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json")];
    let half = vec![
        format!("{stem}.fp16.safetensors"),
        format!("{stem}.safetensors.index.fp16.json"),
        format!("{stem}.fp16.safetensors.index.json"),
    ];
    let full_pickle = vec![format!("{pickle}.bin"), format!("{pickle}.bin.index.json")];
    let half_pickle =
        vec![format!("{pickle}.fp16.bin"), format!("{pickle}.bin.index.fp16.json"), format!("{pickle}.fp16.bin.index.json")];
    let order = match prefer_half {
        true => [half, full, half_pickle, full_pickle],
        false => [full, half, full_pickle, half_pickle],
    };
    order.into_iter().flatten()
}

/// Opens the weight file of a network's own folder.
///
/// # Errors
/// [`Error::File`] when none is there, and those of [`WeightFile::open`].
pub(super) fn open(folder: &Path, network: Network, prefer_half: bool) -> Result<WeightFile> {
    for name in names(network, prefer_half) {
        let path = folder.join(&name);
        // A link that leads nowhere, as a cache's after its blob was removed, is a fault and no other precision's turn.
        if path.symlink_metadata().is_ok() {
            return if name.contains(".index.") { WeightFile::open_sharded(path) } else { WeightFile::open(path) };
        }
    }
    let cause = ModelFileCause::NoWeights { stem: network.stem(), pickle_stem: network.pickle_stem() };
    Err(Error::file(folder, cause, "the model folder is incomplete; copy or download it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_files() {
        let first = |half| names(Network::TextEncoder, half).take(3).collect::<Vec<_>>();
        assert_eq!(first(false), ["model.safetensors", "model.safetensors.index.json", "model.fp16.safetensors"]);
        assert_eq!(first(true)[0], "model.fp16.safetensors");
        let pickles: Vec<String> = names(Network::TextEncoder, true).skip(5).collect();
        assert_eq!(pickles[0], "pytorch_model.fp16.bin");
        assert_eq!(names(Network::Unet, false).nth(5).as_deref(), Some("diffusion_pytorch_model.bin"));
    }
}
