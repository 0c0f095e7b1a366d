//! The networks of a base model.

/// A network. Its name is that of its folder in a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// The noise predictor, diffusers' `UNet2DConditionModel`.
    Unet,
    /// The autoencoder, diffusers' `AutoencoderKL`.
    Vae,
    /// The text encoder, transformers' `CLIPTextModel`.
    TextEncoder,
    /// What steers the noise predictor by an image, diffusers' `ControlNetModel`; a model of its own, beside a pipeline.
    ControlNet,
}

impl Network {
    /// Those of a pipeline, in the order in which its folder lists them.
    pub const PIPELINE: [Self; 3] = [Self::Unet, Self::Vae, Self::TextEncoder];

    /// The name of the network's folder in a pipeline, which is also its prefix in diffusers' adapter files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
            Self::ControlNet => "controlnet",
        }
    }

    /// The weight file's name without extension, as diffusers and transformers write safetensors.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae | Self::ControlNet => "diffusion_pytorch_model",
            Self::TextEncoder => "model",
        }
    }

    /// The weight file's name without extension where it is a pickle.
    pub fn pickle_stem(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae | Self::ControlNet => "diffusion_pytorch_model",
            Self::TextEncoder => "pytorch_model",
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
