//! Stable Diffusion in training: `driftless::pipeline` with trained adapters in its slots.

use super::{Denoiser, Model};
use crate::network::TrainedNetwork;
use crate::options::Options;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use driftless::Result;
use driftless::adapter::BatchClock;
use driftless::pipeline::Pipeline;
use driftless::vae::Posterior;

/// A pipeline, and how it is trained.
pub struct StableDiffusion {
    /// The model.
    pub pipeline: Pipeline,
    clip_skip: usize,
    max_token_length: usize,
    trains_text_encoder: bool,
    /// The current batch, for the adapter's dropout.
    clock: BatchClock,
    denoiser: Denoiser,
}

impl StableDiffusion {
    /// `pipeline` with the adapter matrices of `network` already in its slots.
    pub fn new(pipeline: Pipeline, options: &Options, network: &TrainedNetwork) -> Self {
        let denoiser = Denoiser::new(pipeline.unet.clone(), pipeline.compute_dtype(), options, network);
        Self {
            pipeline,
            clip_skip: options.model.clip_skip.unwrap_or(1) as usize,
            max_token_length: options.model.max_token_length.unwrap_or(75),
            trains_text_encoder: network.trains_text_encoder(),
            clock: network.clock.clone(),
            denoiser,
        }
    }
}

impl StableDiffusion {
    /// The first weight of the networks that is not finite, if any.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn first_spoilt_weight(&self) -> Result<Option<String>> {
        let networks = [("text_encoder", self.pipeline.text_encoder.slots()), ("unet", self.pipeline.unet.slots())];
        for (network, slots) in networks {
            for (path, slot) in slots.all() {
                let sum = slot.weight().to_dtype(DType::F32)?.abs()?.sum_all()?.to_scalar::<f32>()?;
                if !sum.is_finite() {
                    return Ok(Some(format!("{network}.{path}.weight")));
                }
            }
        }
        Ok(None)
    }
}

impl Model for StableDiffusion {
    fn device(&self) -> &Device {
        self.pipeline.device()
    }

    fn latent_shape(&self, (width, height): (usize, usize)) -> [usize; 3] {
        let config = self.pipeline.vae.config();
        [config.latent_channels, height / config.downscale(), width / config.downscale()]
    }

    fn posterior(&self, images: &Tensor) -> Result<Posterior> {
        let images = images.to_device(self.device())?.to_dtype(self.pipeline.compute_dtype())?;
        let Posterior { mean, log_variance } = self.pipeline.vae.encode(&images)?;
        let plain = |tensor: Tensor| -> Result<Tensor> { Ok(tensor.to_dtype(DType::F32)?.detach()) };
        Ok(Posterior { mean: plain(mean)?, log_variance: plain(log_variance)? })
    }

    fn latent_scale(&self) -> f64 {
        self.pipeline.vae.config().scaling_factor
    }

    /// Captions of more than 75 tokens as kohya encodes them: pieces of 75 between start and end token, encoded apart; of all pieces the
    /// middle states, between the first start and the last end state.
    fn encode_captions(&self, captions: &[&str]) -> Result<Tensor> {
        let mut pieces = Vec::with_capacity(captions.len());
        for caption in captions {
            pieces.extend(self.pipeline.tokenizer.encode_kohya(caption, self.max_token_length)?.into_iter().map(Vec::from));
        }
        let encoder = &self.pipeline.text_encoder;
        let states = match self.denoiser.sink() {
            Some(sink) if self.trains_text_encoder => encoder.forward_checkpointed(&pieces, self.clip_skip, sink)?,
            _ => encoder.forward(&pieces, self.clip_skip)?,
        };
        join(&states, captions.len())
    }

    fn begin_batch(&self, number: u64) {
        self.clock.set(number);
    }

    fn trains_text_encoder(&self) -> bool {
        self.trains_text_encoder
    }

    fn predict(&self, noisy: &Tensor, timesteps: &[usize], text: &Tensor) -> Result<Tensor> {
        self.denoiser.predict(noisy, timesteps, text)
    }

    fn denoiser(&self) -> &Denoiser {
        &self.denoiser
    }

    fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.denoiser.backward(loss)
    }
}

/// `[b * p, n, c]`, `p` pieces for each of `b` captions, to `[b, 1 + p (n - 2) + 1, c]`.
fn join(states: &Tensor, captions: usize) -> Result<Tensor> {
    let (all, tokens, channels) = states.dims3()?;
    let pieces = all / captions.max(1);
    if pieces == 1 {
        return Ok(states.clone());
    }
    let states = states.reshape((captions, pieces, tokens, channels))?;
    let start = states.narrow(1, 0, 1)?.narrow(2, 0, 1)?.squeeze(1)?;
    let end = states.narrow(1, pieces - 1, 1)?.narrow(2, tokens - 1, 1)?.squeeze(1)?;
    let middle = states.narrow(2, 1, tokens - 2)?.reshape((captions, pieces * (tokens - 2), channels))?;
    Ok(Tensor::cat(&[start, middle, end], 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_between_one_start_and_one_end() {
        // Two captions of three pieces of four tokens; values tell caption, piece and token.
        let values: Vec<f32> =
            (0..2).flat_map(|c| (0..3).flat_map(move |p| (0..4).map(move |t| (100 * c + 10 * p + t) as f32))).collect();
        let states = Tensor::from_vec(values, (6, 4, 1), &Device::Cpu).unwrap();
        let joined: Vec<Vec<f32>> = join(&states, 2).unwrap().squeeze(2).unwrap().to_vec2().unwrap();
        assert_eq!(joined[0], [0.0, 1.0, 2.0, 11.0, 12.0, 21.0, 22.0, 23.0]);
        assert_eq!(joined[1], [100.0, 101.0, 102.0, 111.0, 112.0, 121.0, 122.0, 123.0]);
        let single = Tensor::zeros((2, 4, 1), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(join(&single, 2).unwrap().dims(), [2, 4, 1]);
    }
}
