//! Images as the networks take them.

use candle_core::{DType, Device, Tensor};
use driftless::Result;
use driftless::error::FileCause;
use driftless::model_family::LATENT_DOWNSCALE;
use driftless::rng::Generator;
use driftless::vision::{Filter, Image, Rgb, canny, resize};

use crate::inputs::Sample;
use crate::plan::ConditionSource;

/// Canny's thresholds in the original.
const CANNY: (u32, u32) = (100, 200);

/// An image resized to `img_size` squared: resized in its own mode, then converted to RGB, as the original does.
///
/// # Errors
/// When the file cannot be read.
pub fn read(sample: &Sample, img_size: usize) -> Result<Rgb> {
    Ok(Image::open(&sample.path)?.resized_rgb(img_size, img_size))
}

/// Images for the autoencoder, `[b, 3, h, w]` in -1..1. Where the size is no multiple of 8, they are first resized once more,
/// Lanczos, to the next one below.
///
/// # Errors
/// When memory is short.
pub fn for_vae<'a>(images: impl Iterator<Item = &'a Rgb>) -> Result<Tensor> {
    let fitted = images.map(|image| {
        let (width, height) =
            (image.width / LATENT_DOWNSCALE * LATENT_DOWNSCALE, image.height / LATENT_DOWNSCALE * LATENT_DOWNSCALE);
        resize(image, width, height, Filter::Lanczos).to_tensor(&Device::Cpu)
    });
    Ok(Tensor::cat(&fitted.collect::<Result<Vec<_>>>()?, 0)?)
}

/// The condition image of an image, `[1, 3, h, w]` in 0..1: its edges, or the ready-made image resized like an image, and then `change`d as
/// the image was.
///
/// # Errors
/// When the ready-made image cannot be read.
pub fn condition(source: &ConditionSource, sample: &Sample, image: &Rgb, change: &dyn Fn(&Rgb) -> Rgb) -> Result<Tensor> {
    #[derive(Debug, thiserror::Error)]
    #[error("has no condition image")]
    struct NoCondition;
    match source {
        ConditionSource::Canny => canny(image, CANNY.0, CANNY.1).to_rgb().to_unit_tensor(&Device::Cpu),
        ConditionSource::Images(images) => {
            let missing =
                || driftless::Error::file(&sample.path, FileCause::above(NoCondition), "it was there when the run began");
            let path = images.file(sample).ok_or_else(missing)?;
            change(&Image::open(path)?.resized_rgb(image.width, image.height)).to_unit_tensor(&Device::Cpu)
        }
    }
}

/// The random draws of a batch, each `[b, channels, side, side]` in float32.
pub struct Noise {
    /// For the autoencoder's posterior.
    pub posterior: Tensor,
    /// For the forward diffusion.
    pub diffusion: Tensor,
}

impl Noise {
    /// Image number i draws from `seed + i`, first for the posterior, then for the diffusion, so that neither batches nor shards
    /// change what an image draws.
    ///
    /// # Errors
    /// When memory is short.
    pub fn draw(seed: u64, samples: &[&Sample], channels: usize, side: usize) -> Result<Self> {
        let shape = [1, channels, side, side];
        let mut posterior = Vec::with_capacity(samples.len());
        let mut diffusion = Vec::with_capacity(samples.len());
        for sample in samples {
            let mut generator = Generator::manual_seed(seed.wrapping_add(sample.number as u64));
            posterior.push(generator.randn_tensor(&shape, &Device::Cpu)?.to_dtype(DType::F32)?);
            diffusion.push(generator.randn_tensor(&shape, &Device::Cpu)?.to_dtype(DType::F32)?);
        }
        Ok(Self { posterior: Tensor::cat(&posterior, 0)?, diffusion: Tensor::cat(&diffusion, 0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(index: usize) -> Sample {
        Sample { index, number: index, path: "x.png".into(), name: "x".to_owned() }
    }

    #[test]
    fn an_images_noise_does_not_depend_on_its_batch() {
        let (first, second) = (sample(4), sample(5));
        let both = Noise::draw(7, &[&first, &second], 4, 8).unwrap();
        let alone = Noise::draw(7, &[&second], 4, 8).unwrap();
        let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers(&both.posterior.get(1).unwrap()), numbers(&alone.posterior));
        assert_eq!(numbers(&both.diffusion.get(1).unwrap()), numbers(&alone.diffusion));
        assert_ne!(numbers(&alone.posterior), numbers(&alone.diffusion));
        let mut generator = Generator::manual_seed(12);
        assert_eq!(numbers(&alone.posterior), generator.randn(&[1, 4, 8, 8]));
    }

    #[test]
    fn odd_sizes_shrink_to_multiples_of_eight() {
        let tensor = for_vae([[255, 0, 0], [0, 0, 0]].map(|color| Rgb::filled(100, 100, color)).iter()).unwrap();
        assert_eq!(tensor.dims(), [2, 3, 96, 96]);
    }
}
