//! CLIP's text encoder (transformers 4.49 `CLIPTextModel`): causal, no padding mask, final layer norm included.

mod config;
mod layer;

use candle_core::{DType, Tensor};

pub use config::TextEncoderConfig;

use crate::Result;
use crate::error::InputError;
use crate::layers::{LayerNorm, Slots, Weights};
use crate::ops::{self, Activation, GradientSink};
use layer::EncoderLayer;
use std::sync::Arc;

/// The network that turns token ids into the states which the UNet attends to.
#[derive(Debug)]
pub struct TextEncoder {
    config: TextEncoderConfig,
    /// In their storage type: rows are converted as they are looked up.
    token_embedding: Tensor,
    position_embedding: Tensor,
    layers: Vec<Arc<EncoderLayer>>,
    final_layer_norm: LayerNorm,
    compute: DType,
    slots: Slots,
}

impl TextEncoder {
    /// Reads the network.
    ///
    /// # Errors
    /// When a tensor is missing or does not have the shape that `config` asks for.
    pub fn load(config: TextEncoderConfig, weights: Weights) -> Result<Self> {
        let model = weights.pp("text_model");
        let width = config.hidden_size;
        let embeddings = model.pp("embeddings");
        let token_embedding = embeddings.weight("token_embedding.weight", &[config.vocab_size, width])?;
        let position_embedding = embeddings.parameter("position_embedding.weight", &[config.max_position_embeddings, width])?;
        let layers = (0..config.num_hidden_layers)
            .map(|layer| EncoderLayer::load(&config, model.pp("encoder.layers").pp(layer)).map(Arc::new))
            .collect::<Result<_>>()?;
        let final_layer_norm = LayerNorm::load(width, config.layer_norm_eps, model.pp("final_layer_norm"))?;
        let (compute, slots) = (weights.compute_dtype(), weights.slots().clone());
        Ok(Self { config, token_embedding, position_embedding, layers, final_layer_norm, compute, slots })
    }

    /// The network's sizes.
    pub fn config(&self) -> &TextEncoderConfig {
        &self.config
    }

    /// Every layer that takes an adapter.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The states of some token sequences of equal length.
    ///
    /// `clip_skip` counts from the end as kohya does: 1 (or 0) takes the last layer, 2 the one before; the final layer norm is
    /// applied in every case. Positions start at 0 for each sequence.
    ///
    /// # Shapes
    /// `ids` are `b` sequences of `n` tokens, `n` at most `max_position_embeddings`; returns `[b, n, hidden_size]`.
    /// # Errors
    /// When a sequence is too long, a token is not in the vocabulary, or `clip_skip` leaves no layer.
    pub fn forward(&self, ids: &[Vec<u32>], clip_skip: usize) -> Result<Tensor> {
        self.run(ids, clip_skip, None)
    }

    /// The same with every layer recomputed in the backward pass; gradients of variables inside layers arrive in `sink`.
    ///
    /// # Errors
    /// As [`TextEncoder::forward`].
    pub fn forward_checkpointed(&self, ids: &[Vec<u32>], clip_skip: usize, sink: &GradientSink) -> Result<Tensor> {
        self.run(ids, clip_skip, Some(sink))
    }

    fn run(&self, ids: &[Vec<u32>], clip_skip: usize, sink: Option<&GradientSink>) -> Result<Tensor> {
        let layers = self.layers.len();
        let used = (layers + 1).checked_sub(clip_skip.max(1)).filter(|&used| used > 0);
        let used = used.ok_or(InputError::ClipSkip { layers, found: clip_skip })?;
        let mut hidden = self.embed(ids)?;
        if sink.is_some() {
            // Gradient checkpointing needs a tracked input, or candle sees nothing to differentiate.
            hidden = candle_core::Var::from_tensor(&hidden)?.into_inner();
        }
        let mut hidden = Activation::shared(hidden);
        for layer in &self.layers[..used] {
            hidden = match sink {
                Some(sink) => {
                    let layer = layer.clone();
                    let block =
                        move |[x, _, _]: [&Tensor; 3]| layer.forward(&Activation::shared(x.clone())).map(Activation::into_tensor);
                    let x = hidden.saved();
                    Activation::new(ops::checkpoint(sink, [x, x, x], block)?)
                }
                None => layer.forward(&hidden)?,
            };
        }
        self.final_layer_norm.forward(&hidden).map(Activation::into_tensor)
    }

    fn embed(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        let length = ids.first().map_or(0, Vec::len);
        if length == 0 || ids.iter().any(|sequence| sequence.len() != length) {
            return Err(InputError::TokenLengths.into());
        }
        if length > self.config.max_position_embeddings {
            return Err(InputError::TooManyTokens { most: self.config.max_position_embeddings, found: length }.into());
        }
        let flat: Vec<u32> = ids.concat();
        if let Some(&found) = flat.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            return Err(InputError::UnknownToken { vocabulary: self.config.vocab_size, found }.into());
        }
        let flat = Tensor::new(flat, self.token_embedding.device())?;
        let tokens = self.token_embedding.index_select(&flat, 0)?.to_dtype(self.compute)?;
        let tokens = tokens.reshape((ids.len(), length, self.config.hidden_size))?;
        Ok(tokens.broadcast_add(&self.position_embedding.narrow(0, 0, length)?)?)
    }
}
