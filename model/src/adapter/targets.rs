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
    /// The former, and `conv_in`, `conv_out` and `time_embedding` (LyCORIS' preset `full`); 282 layers in SD1.5.
    Everything,
    /// `ResnetBlock2D`, `Downsample2D`, `Upsample2D`, `conv_in` and `conv_out` (LyCORIS' preset `unet-convblock-only`); 88 layers in
    /// SD1.5.
    Convolutions,
    /// The diffusers example: `to_q`, `to_k`, `to_v`, `to_out.0` of every attention; 128 layers in SD1.5.
    Attention,
}

impl UnetTargets {
    /// Whether the UNet layer at `path` is one of these.
    pub fn matches(self, path: &str) -> bool {
        let in_transformer = path.contains(".attentions.");
        let in_convolutions = [".resnets.", ".downsamplers.", ".upsamplers."].iter().any(|block| path.contains(block));
        let at_ends = path == "conv_in" || path == "conv_out";
        match self {
            Self::Transformers => in_transformer,
            Self::TransformersAndConvolutions => in_transformer || in_convolutions,
            Self::Everything => in_transformer || in_convolutions || at_ends || path.starts_with("time_embedding."),
            Self::Convolutions => in_convolutions || at_ends,
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
            "everything" => Ok(Self::Everything),
            "convolutions" => Ok(Self::Convolutions),
            _ => {
                let names = ["transformers", "transformers+convolutions", "attention", "everything", "convolutions"];
                Err(Error::unknown("adapter target", name, names))
            }
        }
    }
}

/// A named choice of layers of the text encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextEncoderTargets {
    /// kohya's: the linear layers of `CLIPAttention` and `CLIPMLP`; 72 layers in SD1.5.
    All,
    /// Those of `CLIPAttention`; 48 layers in SD1.5.
    Attention,
    /// None.
    None,
}

impl TextEncoderTargets {
    /// Whether the text encoder's layer at `path` is one of these.
    pub fn matches(self, path: &str) -> bool {
        match self {
            Self::All => path.contains(".self_attn.") || path.contains(".mlp."),
            Self::Attention => path.contains(".self_attn."),
            Self::None => false,
        }
    }
}
