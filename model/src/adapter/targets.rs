//! Which layers an adapter trains. Each choice is a test on module paths, so it holds for any width and depth.

use crate::{Error, Result};

/// A named choice of layers of the UNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnetTargets {
    /// kohya's default (`networks/lora.py`, `UNET_TARGET_REPLACE_MODULE`): every linear layer and 1x1 convolution inside a
    /// `Transformer2DModel`; 192 layers in SD1.5.
    Transformers,
    /// The former, and `ResnetBlock2D`, `Downsample2D`, `Upsample2D` (kohya with `conv_dim`); 278 layers in SD1.5.
    TransformersAndConvolutions,
    /// The diffusers example: `to_q`, `to_k`, `to_v`, `to_out.0` of every attention; 128 layers in SD1.5.
    Attention,
}

impl UnetTargets {
    /// Whether the UNet layer at `path` is one of these.
    pub fn matches(self, path: &str) -> bool {
        let in_transformer = path.contains(".attentions.");
        match self {
            Self::Transformers => in_transformer,
            Self::TransformersAndConvolutions => {
                in_transformer || path.contains(".resnets.") || path.contains(".downsamplers.") || path.contains(".upsamplers.")
            }
            Self::Attention => in_transformer && ["to_q", "to_k", "to_v", "to_out.0"].iter().any(|end| path.ends_with(end)),
        }
    }
}

impl std::str::FromStr for UnetTargets {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "transformers" => Ok(Self::Transformers),
            "transformers+convolutions" => Ok(Self::TransformersAndConvolutions),
            "attention" => Ok(Self::Attention),
            _ => Err(Error::unknown("adapter target", name, ["transformers", "transformers+convolutions", "attention"])),
        }
    }
}

/// Whether the text-encoder layer at `path` is one that kohya adapts: the linear layers of `CLIPAttention` and `CLIPMLP`.
pub fn text_encoder_matches(path: &str) -> bool {
    path.contains(".self_attn.") || path.contains(".mlp.")
}
