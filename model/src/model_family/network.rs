//! The networks of a base model.

/// The two networks of SD1.5 that adapters are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// `UNet2DConditionModel`.
    Unet,
    /// `CLIPTextModel`.
    TextEncoder,
}

impl Network {
    /// The name of the network's folder in a pipeline, which is also its prefix in diffusers' adapter files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
