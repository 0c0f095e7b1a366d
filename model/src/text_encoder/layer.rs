//! One layer of the text encoder (transformers `CLIPEncoderLayer`).

use super::TextEncoderConfig;
use super::config::Activation as ActivationFunction;
use crate::Result;
use crate::layers::{LayerNorm, Linear, Weights};
use crate::ops::{Activation, Mask};

/// Causal self-attention and a two-layer perceptron, each behind a layer norm and a residual.
#[derive(Debug)]
pub(super) struct EncoderLayer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: ActivationFunction,
}

impl EncoderLayer {
    pub fn load(config: &TextEncoderConfig, weights: Weights) -> Result<Self> {
        let width = config.hidden_size;
        let attention = weights.pp("self_attn");
        let projection = |name| Linear::load(width, width, attention.pp(name));
        Ok(Self {
            layer_norm1: LayerNorm::load(width, config.layer_norm_eps, weights.pp("layer_norm1"))?,
            q_proj: projection("q_proj")?,
            k_proj: projection("k_proj")?,
            v_proj: projection("v_proj")?,
            out_proj: projection("out_proj")?,
            layer_norm2: LayerNorm::load(width, config.layer_norm_eps, weights.pp("layer_norm2"))?,
            fc1: Linear::load(width, config.intermediate_size, weights.pp("mlp.fc1"))?,
            fc2: Linear::load(config.intermediate_size, width, weights.pp("mlp.fc2"))?,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
        })
    }

    /// `x` `[b, n, hidden_size]`; returns the same.
    pub fn forward(&self, x: &Activation) -> Result<Activation> {
        let normed = self.layer_norm1.forward(x)?;
        let (q, k, v) = (self.q_proj.forward(&normed)?, self.k_proj.forward(&normed)?, self.v_proj.forward(&normed)?);
        let attended = q.attention(&k, &v, self.heads, Mask::Causal)?;
        let x = self.out_proj.forward(&attended)?.add(x)?;
        let inner = self.fc1.forward(&self.layer_norm2.forward(&x)?)?;
        let inner = match self.activation {
            ActivationFunction::QuickGelu => inner.quick_gelu()?,
            ActivationFunction::Gelu => inner.gelu()?,
        };
        self.fc2.forward(&inner)?.add(&x)
    }
}
