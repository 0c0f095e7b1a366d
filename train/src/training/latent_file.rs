//! Latents on disk (`--cache_latents_to_disk`): a safetensors file for each image, beside it or in a folder of its own.
//!
//! sd-scripts keeps one sample in `NAME_0512x0512_sd.npz`. Here the distribution is kept, mean and log-variance, so that a run draws the
//! sample that its own seed asks for and ends with the same bytes as without the cache. A file counts only if the image's size and
//! time, the autoencoder, and what is made of the image are what they were, and if its checksum is right: a bit that a disk has lost
//! would train in silence.

use crate::data::Sample;
use crate::options::Interpolation;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use driftless::formats::{WeightFile, write_safetensors};
use driftless::vae::Posterior;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// Where the files are, and what they must be of.
#[derive(Debug, Clone)]
pub struct LatentFiles {
    /// `--latent_cache_dir`.
    pub folder: Option<PathBuf>,
    /// The autoencoder, see [`crate::model::vae::identity`].
    pub vae: String,
}

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Kept {
    /// SHA-256 of the image's bytes.
    pub content: [u8; 32],
    /// As it is, and mirrored where that was asked for; `[1, c, h, w]` on the CPU.
    pub posteriors: BTreeMap<bool, Posterior>,
}

impl Kept {
    /// SHA-256 of all that is kept.
    fn checksum(&self) -> candle_core::Result<String> {
        let mut hash = Sha256::new().chain_update(self.content);
        for (flipped, posterior) in &self.posteriors {
            for tensor in [&posterior.mean, &posterior.log_variance] {
                hash.update(format!("{flipped} {:?}", tensor.dims()));
                for number in tensor.flatten_all()?.to_vec1::<f32>()? {
                    hash.update(number.to_le_bytes());
                }
            }
        }
        Ok(hex(&hash.finalize()))
    }
}

const FORMAT: &str = "driftless latents 2";
const CONTENT: &str = "content";
const CHECKSUM: &str = "checksum";

impl LatentFiles {
    /// The path of a sample's file.
    pub fn path(&self, sample: &Sample) -> PathBuf {
        let (width, height) = sample.placement.bucket;
        let name = sample.path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}.{width}x{height}.latents.safetensors");
        match &self.folder {
            Some(folder) => {
                // Images of the same name in several folders must not share a file.
                let whole = std::path::absolute(&sample.path).unwrap_or_else(|_| sample.path.clone());
                folder.join(format!("{}-{name}", &hex(&Sha256::digest(whole.as_os_str().as_encoded_bytes()))[..16]))
            }
            None => sample.path.with_file_name(name),
        }
    }

    /// What is kept for a sample; `None` when there is nothing, or nothing that still counts.
    pub fn read(&self, sample: &Sample, interpolation: Option<Interpolation>) -> Option<Kept> {
        let file = WeightFile::open(self.path(sample)).ok()?;
        let metadata = file.metadata();
        let expected = self.expected(sample, interpolation).ok()?;
        if expected.iter().any(|(key, value)| metadata.get(key) != Some(value)) {
            return None;
        }
        let content = from_hex(metadata.get(CONTENT)?)?;
        let mut posteriors = BTreeMap::new();
        for flipped in [false, true] {
            if let Some(posterior) = read_posterior(&file, sample, flipped) {
                posteriors.insert(flipped, posterior);
            }
        }
        let kept = Kept { content, posteriors };
        (metadata.get(CHECKSUM)? == &kept.checksum().ok()?).then_some(kept)
    }

    /// Keeps latents of a sample for later runs.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, sample: &Sample, interpolation: Option<Interpolation>, kept: &Kept) -> Result<()> {
        let path = self.path(sample);
        let failed = || format!("{}: latents cannot be kept; see --latent_cache_dir", path.display());
        if let Some(folder) = &self.folder {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        let mut metadata = self.expected(sample, interpolation)?;
        metadata.insert(CONTENT.into(), hex(&kept.content));
        metadata.insert(CHECKSUM.into(), kept.checksum()?);
        let mut tensors = Vec::new();
        for (flipped, posterior) in &kept.posteriors {
            tensors.push((name("mean", *flipped), posterior.mean.clone()));
            tensors.push((name("log_variance", *flipped), posterior.log_variance.clone()));
        }
        write_safetensors(&path, tensors, &metadata).with_context(failed)
    }

    /// What must stand in the file's header for it to count.
    fn expected(&self, sample: &Sample, interpolation: Option<Interpolation>) -> Result<BTreeMap<String, String>> {
        let file = std::fs::metadata(&sample.path).with_context(|| sample.path.display().to_string())?;
        let modified = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let entries = [
            ("format", FORMAT.to_owned()),
            ("image_bytes", file.len().to_string()),
            ("picture_modified_nanoseconds", modified.as_nanos().to_string()),
            ("vae", self.vae.clone()),
            ("upright", sample.upright.to_string()),
            ("placement", format!("{:?}", sample.placement)),
            ("interpolation", format!("{interpolation:?}")),
        ];
        Ok(entries.map(|(key, value)| (key.to_owned(), value)).into())
    }
}

fn name(tensor: &str, flipped: bool) -> String {
    format!("{}{tensor}", if flipped { "flipped." } else { "" })
}

fn read_posterior(file: &WeightFile, sample: &Sample, flipped: bool) -> Option<Posterior> {
    let read = |tensor: &str| -> Option<Tensor> {
        let tensor = file.tensor(&name(tensor, flipped), &Device::Cpu).ok()?;
        let (width, height) = sample.placement.bucket;
        // Whatever the autoencoder is, it makes an image smaller, and the file's own header says by how much.
        let fits = matches!(tensor.dims(), [1, _, h, w] if *h > 0 && *w > 0 && h * width == w * height);
        (fits && tensor.dtype() == DType::F32).then_some(tensor)
    };
    let posterior = Posterior { mean: read("mean")?, log_variance: read("log_variance")? };
    (posterior.mean.dims() == posterior.log_variance.dims()).then_some(posterior)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::buckets::Placement;
    use driftless::vision::Rgb;

    /// Whichever byte of a file is altered, what is taken from it is what was put in, or nothing.
    #[test]
    fn an_altered_file_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        Rgb::filled(16, 16, [1, 2, 3]).save_png(&path).unwrap();
        let placement = Placement { bucket: (16, 16), resized: (16, 16) };
        let sample = Sample {
            path,
            size: (16, 16),
            upright: false,
            caption: String::new(),
            subset: 0,
            repeats: 1,
            is_reg: false,
            placement,
        };
        let posterior = |first: f32| {
            let numbers = |from: f32| Tensor::from_vec((0..16).map(|n| from + n as f32).collect(), (1, 4, 2, 2), &Device::Cpu);
            Posterior { mean: numbers(first).unwrap(), log_variance: numbers(-first).unwrap() }
        };
        let kept = Kept { content: [7; 32], posteriors: BTreeMap::from([(false, posterior(0.5)), (true, posterior(2.5))]) };
        let files = LatentFiles { folder: None, vae: "vae".into() };
        files.write(&sample, None, &kept).unwrap();
        let path = files.path(&sample);
        let whole = std::fs::read(&path).unwrap();
        let checksum = kept.checksum().unwrap();
        assert_eq!(files.read(&sample, None).unwrap().checksum().unwrap(), checksum);
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 1 << (at % 8);
            std::fs::write(&path, altered).unwrap();
            match files.read(&sample, None) {
                None => refused += 1,
                Some(read) => assert_eq!(read.checksum().unwrap(), checksum, "byte {at}"),
            }
        }
        assert!(refused > whole.len() * 9 / 10, "{refused} of {}", whole.len());
    }
}
