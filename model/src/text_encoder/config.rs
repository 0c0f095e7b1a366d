//! A text encoder's sizes as its config.json gives them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ConfigCause;
use crate::formats::{MOST_DEPTH, MOST_WIDTH, check_sizes, read_config};
use crate::{Error, Result};

/// The most tokens in a vocabulary; CLIP's has 49408.
const MOST_TOKENS: usize = 1 << 24;

/// The activation of the feed-forward layers.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, SD1.5's.
    QuickGelu,
    /// The exact GELU, SD2's.
    Gelu,
}

/// The entries of `text_encoder/config.json` (transformers 4.49 `CLIPTextConfig`) that matter; a missing one takes the class's default.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct TextEncoderConfig {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the states.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of the self-attention.
    pub num_attention_heads: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

impl Default for TextEncoderConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl TextEncoderConfig {
    /// Stable Diffusion 1.5's (OpenAI CLIP ViT-L/14, 123 million parameters).
    pub fn stable_diffusion_1_5() -> Self {
        Self { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12, ..Self::default() }
    }

    /// Stable Diffusion 2.1's (OpenCLIP ViT-H/14, 340 million parameters). The folder holds 23 of the 24 layers: the states that the
    /// UNet was trained on are those of the last layer but one, and the file ends there, so that nothing is skipped.
    pub fn stable_diffusion_2_1() -> Self {
        Self {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 23,
            num_attention_heads: 16,
            hidden_act: Activation::Gelu,
            ..Self::default()
        }
    }

    /// Stable Diffusion 1.5's at a miniature size, for tests and the quickstart.
    pub fn miniature(vocab_size: usize) -> Self {
        let sizes =
            Self { hidden_size: 32, intermediate_size: 64, num_hidden_layers: 3, num_attention_heads: 4, ..Self::default() };
        Self { vocab_size, ..sizes }
    }

    /// Stable Diffusion 2.1's at a miniature size.
    pub fn miniature_2_1(vocab_size: usize) -> Self {
        Self {
            hidden_size: 48,
            intermediate_size: 96,
            num_attention_heads: 6,
            hidden_act: Activation::Gelu,
            ..Self::miniature(vocab_size)
        }
    }

    /// Reads and checks a config.json.
    ///
    /// # Errors
    /// [`Error::Config`] naming the entry that is wrong or unsupported.
    pub fn from_file(path: &Path) -> Result<Self> {
        let config: Self = read_config(path)?;
        let sizes = [
            ("vocab_size", config.vocab_size, MOST_TOKENS),
            ("hidden_size", config.hidden_size, MOST_WIDTH),
            ("intermediate_size", config.intermediate_size, MOST_WIDTH),
            ("num_hidden_layers", config.num_hidden_layers, MOST_DEPTH),
            ("num_attention_heads", config.num_attention_heads, MOST_WIDTH),
            ("max_position_embeddings", config.max_position_embeddings, MOST_WIDTH),
        ];
        check_sizes(&sizes).map_err(|(key, cause)| Error::config(path, key, cause))?;
        if config.layer_norm_eps.is_nan() || config.layer_norm_eps <= 0.0 {
            return Err(Error::config(path, "layer_norm_eps", ConfigCause::NotPositive));
        }
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            let (found, size) = (config.num_attention_heads, config.hidden_size);
            return Err(Error::config(path, "num_attention_heads", ConfigCause::Division { found, whole: "hidden_size", size }));
        }
        Ok(config)
    }
}
