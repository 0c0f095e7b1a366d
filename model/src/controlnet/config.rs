//! A ControlNet's sizes as its config.json gives them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::NetworkConfigCause;
use crate::formats::{MOST_WIDTH, check_sizes, read_config};
use crate::unet::UnetConfig;
use crate::{Error, Result};

/// The UNet's entries, which the same file holds, and the condition image's.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ControlNetConfig {
    /// Sizes of the copied half of the UNet.
    #[serde(flatten)]
    pub unet: UnetConfig,
    /// Channels of the condition image.
    #[serde(default = "three")]
    pub conditioning_channels: usize,
    /// Widths of the condition image's embedding.
    #[serde(default = "default_widths")]
    pub conditioning_embedding_out_channels: Vec<usize>,
    /// The order of colors that the network was trained on.
    #[serde(default)]
    pub controlnet_conditioning_channel_order: ChannelOrder,
}

/// An order of colors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first, as images come.
    #[default]
    Rgb,
    /// Blue first: condition images are turned round on their way in.
    Bgr,
}

fn three() -> usize {
    3
}

fn default_widths() -> Vec<usize> {
    vec![16, 32, 96, 256]
}

impl ControlNetConfig {
    /// The sizes of the SD1.5 ControlNets.
    pub fn stable_diffusion_1_5() -> Self {
        Self::new(UnetConfig::stable_diffusion_1_5(), default_widths())
    }

    /// A miniature one, for tests and the quickstart.
    pub fn miniature() -> Self {
        Self::new(UnetConfig::miniature(), vec![8, 8, 16, 16])
    }

    /// A miniature one for a miniature Stable Diffusion 2.1.
    pub fn miniature_2_1() -> Self {
        Self { unet: UnetConfig::miniature_2_1(), ..Self::miniature() }
    }

    fn new(unet: UnetConfig, conditioning_embedding_out_channels: Vec<usize>) -> Self {
        let controlnet_conditioning_channel_order = ChannelOrder::Rgb;
        Self { unet, conditioning_channels: three(), conditioning_embedding_out_channels, controlnet_conditioning_channel_order }
    }

    /// Reads and checks a config.json.
    ///
    /// # Errors
    /// [`Error::Config`] naming the entry that is wrong or unsupported.
    pub fn from_file(path: &Path) -> Result<Self> {
        // The UNet's own reader checks what both have in common.
        let unet = UnetConfig::from_controlnet_file(path)?;
        let config: Self = read_config(path)?;
        let widths = &config.conditioning_embedding_out_channels;
        if !(2..=16).contains(&widths.len()) || widths.contains(&0) || config.conditioning_channels == 0 {
            return Err(Error::config(path, "conditioning_embedding_out_channels", NetworkConfigCause::ConditioningWidths));
        }
        let widths = widths.iter().map(|width| ("conditioning_embedding_out_channels", *width, MOST_WIDTH));
        let sizes: Vec<_> = widths.chain([("conditioning_channels", config.conditioning_channels, MOST_WIDTH)]).collect();
        check_sizes(&sizes).map_err(|(key, cause)| Error::config(path, key, cause))?;
        Ok(Self { unet, ..config })
    }
}
