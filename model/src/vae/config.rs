//! An autoencoder's sizes as its config.json gives them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{ConfigCause, NetworkConfigCause};
use crate::formats::{MOST_WIDTH, check_sizes, read_config};
use crate::{Error, Result};

/// The entries of `vae/config.json` (diffusers 0.32 `AutoencoderKL`) that SD1.5 needs; a missing one takes SD1.5's value.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the decoded image.
    pub out_channels: usize,
    /// Width of each level, from the full resolution.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of every norm.
    pub norm_num_groups: usize,
    /// What latents are multiplied with before the UNet sees them.
    pub scaling_factor: f64,
    act_fn: String,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            act_fn: "silu".to_owned(),
            down_block_types: Some(vec!["DownEncoderBlock2D".to_owned(); 4]),
            up_block_types: Some(vec!["UpDecoderBlock2D".to_owned(); 4]),
        }
    }
}

impl VaeConfig {
    /// Stable Diffusion 1.5's (84 million parameters).
    pub fn stable_diffusion_1_5() -> Self {
        Self::default()
    }

    /// A miniature one, for tests and the quickstart.
    pub fn miniature() -> Self {
        Self { block_out_channels: vec![8, 16, 16, 16], norm_num_groups: 4, ..Self::default() }
    }

    /// Reads and checks a config.json.
    ///
    /// # Errors
    /// [`Error::Config`] naming the entry that is wrong or unsupported.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut config: Self = read_config(path)?;
        let levels = config.block_out_channels.len();
        for (key, types, known) in [
            ("down_block_types", &config.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", &config.up_block_types, "UpDecoderBlock2D"),
        ] {
            if let Some(name) = types.iter().flatten().find(|name| *name != known) {
                let cause = NetworkConfigCause::BlockType { found: name.clone(), expected: known };
                return Err(Error::config(path, key, cause));
            }
            if types.as_ref().is_some_and(|types| types.len() != levels) {
                return Err(Error::config(path, key, NetworkConfigCause::EntryCount { expected: levels }));
            }
        }
        if config.act_fn != "silu" {
            return Err(Error::config(path, "act_fn", ConfigCause::Unexpected { found: config.act_fn, expected: "silu" }));
        }
        if levels == 0 || levels > 16 || config.layers_per_block == 0 || config.layers_per_block > 64 {
            return Err(Error::config(path, "block_out_channels", NetworkConfigCause::Levels));
        }
        if config.latent_channels == 0 || config.in_channels == 0 || config.out_channels == 0 {
            return Err(Error::config(path, "latent_channels", NetworkConfigCause::NoChannels));
        }
        let widths = config.block_out_channels.iter().map(|width| ("block_out_channels", *width, MOST_WIDTH));
        let channels = [
            ("latent_channels", config.latent_channels),
            ("in_channels", config.in_channels),
            ("out_channels", config.out_channels),
        ];
        let sizes: Vec<_> = widths.chain(channels.map(|(key, found)| (key, found, MOST_WIDTH))).collect();
        check_sizes(&sizes).map_err(|(key, cause)| Error::config(path, key, cause))?;
        let groups = config.norm_num_groups;
        if let Some(width) = config.block_out_channels.iter().find(|&&width| groups == 0 || width == 0 || width % groups != 0) {
            let cause = ConfigCause::Division { found: groups, whole: "the width", size: *width };
            return Err(Error::config(path, "norm_num_groups", cause));
        }
        if !config.scaling_factor.is_finite() || config.scaling_factor <= 0.0 {
            return Err(Error::config(path, "scaling_factor", ConfigCause::NotPositive));
        }
        config.down_block_types = None;
        config.up_block_types = None;
        Ok(config)
    }

    /// How many pixels a latent stands for along each side: 8 in SD1.5.
    pub fn downscale(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}
