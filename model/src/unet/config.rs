//! A UNet's sizes as its config.json gives them, checked against what this crate builds.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{ConfigCause, NetworkConfigCause};
use crate::formats::{MOST_DEPTH, MOST_WIDTH, check_sizes, read_config};
use crate::model_family::ModelFamily;
use crate::taps::{Layout, Level};
use crate::{Error, Result};

/// The most transformer blocks of a network. Stable Diffusion has 16, SDXL 70.
const MOST_TRANSFORMER_BLOCKS: usize = 4096;

/// One number for all levels, or one per level.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(untagged)]
enum PerLevel {
    Same(usize),
    Each(Vec<usize>),
}

impl PerLevel {
    fn at(&self, level: usize) -> Option<usize> {
        match self {
            Self::Same(value) => Some(*value),
            Self::Each(values) => values.get(level).copied(),
        }
    }
}

/// The entries of `unet/config.json` (diffusers 0.32 `UNet2DConditionModel`) that Stable Diffusion 1's and 2's block types need. A missing
/// entry takes the class's default; an entry that asks for something this crate does not build is refused by name.
///
/// `upcast_attention` (SD2.1's) says that attention scores exceed float16's range and are to be computed in float32. On the CPU everything
/// is, so it changes nothing there; an accelerator computing in float16 is refused when the network is loaded.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct UnetConfig {
    /// Latent side the model was trained at; only a default for callers.
    pub sample_size: Option<usize>,
    /// Latent channels in.
    pub in_channels: usize,
    /// Channels out: the predicted noise.
    pub out_channels: usize,
    /// Width of each level.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per down level; up levels have one more.
    pub layers_per_block: usize,
    /// Width of the text encoder's states.
    pub cross_attention_dim: usize,
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// Epsilon of the residual blocks' and the last norm.
    pub norm_eps: f64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    mid_block_type: Option<String>,
    // In these models' files this holds the number of heads, a slip that diffusers keeps for compatibility.
    attention_head_dim: PerLevel,
    num_attention_heads: Option<PerLevel>,
    transformer_layers_per_block: PerLevel,
    act_fn: String,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    center_input_sample: bool,
    downsample_padding: usize,
    mid_block_scale_factor: f64,
    use_linear_projection: bool,
    only_cross_attention: bool,
    dual_cross_attention: bool,
    upcast_attention: bool,
    class_embed_type: Option<String>,
    addition_embed_type: Option<String>,
    time_cond_proj_dim: Option<usize>,
    resnet_time_scale_shift: String,
    conv_in_kernel: usize,
    conv_out_kernel: usize,
}

impl Default for UnetConfig {
    fn default() -> Self {
        let names = |list: [&str; 4]| list.map(str::to_owned).to_vec();
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: 2,
            cross_attention_dim: 1280,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            down_block_types: names(["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]),
            up_block_types: names(["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".to_owned()),
            attention_head_dim: PerLevel::Same(8),
            num_attention_heads: None,
            transformer_layers_per_block: PerLevel::Same(1),
            act_fn: "silu".to_owned(),
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            center_input_sample: false,
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            use_linear_projection: false,
            only_cross_attention: false,
            dual_cross_attention: false,
            upcast_attention: false,
            class_embed_type: None,
            addition_embed_type: None,
            time_cond_proj_dim: None,
            resnet_time_scale_shift: "default".to_owned(),
            conv_in_kernel: 3,
            conv_out_kernel: 3,
        }
    }
}

/// An entry, and what is wrong with it.
type Wrong = (&'static str, ConfigCause);

impl UnetConfig {
    /// Stable Diffusion 1.5's sizes (860 million parameters).
    pub fn stable_diffusion_1_5() -> Self {
        Self { sample_size: Some(64), cross_attention_dim: 768, ..Self::default() }
    }

    /// Stable Diffusion 2.1's sizes (866 million parameters), trained at latents of 96 x 96.
    pub fn stable_diffusion_2_1() -> Self {
        Self {
            sample_size: Some(96),
            cross_attention_dim: 1024,
            attention_head_dim: PerLevel::Each(vec![5, 10, 20, 20]),
            use_linear_projection: true,
            upcast_attention: true,
            ..Self::default()
        }
    }

    /// Stable Diffusion 1.5's block types at a miniature size, for tests and the quickstart.
    pub fn miniature() -> Self {
        Self {
            sample_size: Some(16),
            block_out_channels: vec![16, 32, 64, 64],
            cross_attention_dim: 32,
            norm_num_groups: 8,
            attention_head_dim: PerLevel::Same(4),
            ..Self::default()
        }
    }

    /// Stable Diffusion 2.1's options at a miniature size: heads per level, linear projections.
    pub fn miniature_2_1() -> Self {
        Self {
            cross_attention_dim: 48,
            attention_head_dim: PerLevel::Each(vec![2, 4, 8, 8]),
            use_linear_projection: true,
            upcast_attention: true,
            ..Self::miniature()
        }
    }

    /// Reads and checks a config.json.
    ///
    /// # Errors
    /// [`Error::Config`] naming the entry that is wrong or unsupported.
    pub fn from_file(path: &Path) -> Result<Self> {
        let config: Self = read_config(path)?;
        config.check().map_err(|(key, cause)| Error::config(path, key, cause))?;
        Ok(config)
    }

    /// Reads and checks a ControlNet's config.json, which has the UNet's entries but no up path.
    ///
    /// # Errors
    /// As [`UnetConfig::from_file`].
    pub fn from_controlnet_file(path: &Path) -> Result<Self> {
        let mut config: Self = read_config(path)?;
        config.up_block_types = vec!["UpBlock2D".to_owned(); config.block_out_channels.len()];
        config.check().map_err(|(key, cause)| Error::config(path, key, cause))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Wrong> {
        let refuse = |key, cause: NetworkConfigCause| Err((key, cause.into()));
        if self.addition_embed_type.is_some() {
            return refuse("addition_embed_type", NetworkConfigCause::Sdxl);
        }
        if self.in_channels == 9 {
            return refuse("in_channels", NetworkConfigCause::Inpainting);
        }
        let levels = self.block_out_channels.len();
        if levels == 0 || levels > 16 || self.down_block_types.len() != levels || self.up_block_types.len() != levels {
            return refuse("block_out_channels", NetworkConfigCause::Widths);
        }
        for name in &self.down_block_types {
            if !["CrossAttnDownBlock2D", "DownBlock2D"].contains(&name.as_str()) {
                return refuse("down_block_types", unknown_block(name, "one of CrossAttnDownBlock2D, DownBlock2D"));
            }
        }
        for name in &self.up_block_types {
            if !["CrossAttnUpBlock2D", "UpBlock2D"].contains(&name.as_str()) {
                return refuse("up_block_types", unknown_block(name, "one of CrossAttnUpBlock2D, UpBlock2D"));
            }
        }
        if self.mid_block_type.as_deref() != Some("UNetMidBlock2DCrossAttn") {
            let name = self.mid_block_type.as_deref().unwrap_or("null");
            return refuse("mid_block_type", unknown_block(name, "one of UNetMidBlock2DCrossAttn"));
        }
        let fixed: [(&'static str, bool, &'static str); 13] = [
            ("act_fn", self.act_fn == "silu" || self.act_fn == "swish", "silu"),
            ("flip_sin_to_cos", self.flip_sin_to_cos, "true"),
            ("freq_shift", self.freq_shift == 0.0, "0"),
            ("center_input_sample", !self.center_input_sample, "false"),
            ("downsample_padding", self.downsample_padding == 1, "1"),
            ("mid_block_scale_factor", self.mid_block_scale_factor == 1.0, "1"),
            ("only_cross_attention", !self.only_cross_attention, "false"),
            ("dual_cross_attention", !self.dual_cross_attention, "false"),
            ("class_embed_type", self.class_embed_type.is_none(), "null"),
            ("time_cond_proj_dim", self.time_cond_proj_dim.is_none(), "null"),
            ("resnet_time_scale_shift", self.resnet_time_scale_shift == "default", "default"),
            ("conv_in_kernel", self.conv_in_kernel == 3, "3"),
            ("conv_out_kernel", self.conv_out_kernel == 3, "3"),
        ];
        for (key, holds, expected) in fixed {
            if !holds {
                return refuse(key, NetworkConfigCause::FixedValue { expected });
            }
        }
        self.check_sizes()
    }

    fn check_sizes(&self) -> Result<(), Wrong> {
        if self.layers_per_block == 0 || self.layers_per_block > 64 {
            return Err(("layers_per_block", NetworkConfigCause::OutOfRange { least: 1, most: 64 }.into()));
        }
        let widths = self.block_out_channels.iter().map(|width| ("block_out_channels", *width, MOST_WIDTH));
        let others = [
            ("in_channels", self.in_channels, MOST_WIDTH),
            ("out_channels", self.out_channels, MOST_WIDTH),
            ("cross_attention_dim", self.cross_attention_dim, MOST_WIDTH),
            ("norm_num_groups", self.norm_num_groups, MOST_WIDTH),
        ];
        let depths = (0..self.block_out_channels.len())
            .map(|level| ("transformer_layers_per_block", self.transformer_blocks_at(level), MOST_DEPTH))
            .filter(|(_, blocks, _)| *blocks > 0);
        check_sizes(&widths.chain(others).chain(depths).collect::<Vec<_>>())?;
        if self.norm_eps.is_nan() || self.norm_eps <= 0.0 {
            return Err(("norm_eps", ConfigCause::NotPositive));
        }
        for (level, &width) in self.block_out_channels.iter().enumerate() {
            if width == 0 || self.norm_num_groups == 0 || width % self.norm_num_groups != 0 || width % 2 != 0 {
                let cause = ConfigCause::Division { found: self.norm_num_groups, whole: "the width", size: width };
                return Err(("norm_num_groups", cause));
            }
            let heads = self.heads(level);
            if heads == 0 || width % heads != 0 {
                return Err(("attention_head_dim", NetworkConfigCause::Heads { heads, level, width }.into()));
            }
            if self.transformer_blocks_at(level) == 0 {
                return Err(("transformer_layers_per_block", NetworkConfigCause::NoEntry { level }.into()));
            }
        }
        // Down and up; the middle's are a level's as well.
        let repeats = 2 * self.layers_per_block + 1;
        let found = (0..self.block_out_channels.len()).map(|level| repeats * self.transformer_blocks_at(level)).sum();
        if found > MOST_TRANSFORMER_BLOCKS {
            let counted = "transformer blocks that a network is built with";
            return Err((
                "transformer_layers_per_block",
                ConfigCause::TooLarge { found, most: MOST_TRANSFORMER_BLOCKS, counted },
            ));
        }
        Ok(())
    }

    /// Attention heads at a level; 0 when the configuration has no entry for it.
    pub fn heads(&self, level: usize) -> usize {
        self.num_attention_heads.as_ref().unwrap_or(&self.attention_head_dim).at(level).unwrap_or(0)
    }

    /// The published sizes of a family.
    pub fn of_family(family: &ModelFamily) -> Self {
        if family.linear_projections { Self::stable_diffusion_2_1() } else { Self::stable_diffusion_1_5() }
    }

    /// The family whose networks have these options.
    pub fn family(&self) -> &'static ModelFamily {
        ModelFamily::of_projections(self.use_linear_projection)
    }

    /// Whether transformers project to tokens by linear layers and not by 1x1 convolutions.
    /// Whether the weights of a network of this configuration mean the same under `other`: sizes, and what no weight's shape tells.
    pub fn takes_weights_of(&self, other: &Self) -> bool {
        let sizes = |config: &Self| {
            let levels = config.block_out_channels.len();
            let blocks = |level| (config.heads(level), config.transformer_blocks_at(level));
            let norms = (config.norm_num_groups, config.norm_eps.to_bits());
            let channels = (config.in_channels, config.out_channels, config.block_out_channels.clone());
            let kinds = (config.down_block_types.clone(), config.up_block_types.clone(), config.use_linear_projection);
            let depth = (config.layers_per_block, (0..levels).map(blocks).collect::<Vec<_>>());
            (channels, depth, config.cross_attention_dim, norms, kinds)
        };
        sizes(self) == sizes(other)
    }

    pub(super) fn use_linear_projection(&self) -> bool {
        self.use_linear_projection
    }

    /// Whether attention scores are too large for float16.
    pub(super) fn upcast_attention(&self) -> bool {
        self.upcast_attention
    }

    fn transformer_blocks_at(&self, level: usize) -> usize {
        self.transformer_layers_per_block.at(level).unwrap_or(0)
    }

    /// Transformer blocks behind each residual block of a down level; 0 without attention.
    pub fn down_transformer_blocks(&self, level: usize) -> usize {
        if self.down_block_types[level] == "CrossAttnDownBlock2D" { self.transformer_blocks_at(level) } else { 0 }
    }

    /// The same for an up level, counted from the lowest resolution.
    pub fn up_transformer_blocks(&self, level: usize) -> usize {
        let mirrored = self.block_out_channels.len() - 1 - level;
        if self.up_block_types[level] == "CrossAttnUpBlock2D" { self.transformer_blocks_at(mirrored) } else { 0 }
    }

    /// The same for the middle.
    pub fn mid_transformer_blocks(&self) -> usize {
        self.transformer_blocks_at(self.block_out_channels.len() - 1)
    }

    /// Width of the time embedding: four times the first level's.
    pub fn time_embedding_width(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    /// The sizes that this UNet's layer ids and their shapes follow from.
    pub fn layout(&self) -> Layout {
        let levels = self.block_out_channels.len();
        let down = (0..levels).map(|level| Level {
            channels: self.block_out_channels[level],
            heads: self.heads(level),
            repeats: self.layers_per_block,
            transformer_blocks: self.down_transformer_blocks(level),
            sampler: level + 1 < levels,
        });
        let up = (0..levels).map(|level| Level {
            channels: self.block_out_channels[levels - 1 - level],
            heads: self.heads(levels - 1 - level),
            repeats: self.layers_per_block + 1,
            transformer_blocks: self.up_transformer_blocks(level),
            sampler: level + 1 < levels,
        });
        Layout {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            down: down.collect(),
            mid_transformer_blocks: self.mid_transformer_blocks(),
            up: up.collect(),
        }
    }
}

impl Layout {
    /// Stable Diffusion 1.5's: 197 ids.
    pub fn stable_diffusion_1_5() -> Self {
        UnetConfig::stable_diffusion_1_5().layout()
    }
}

fn unknown_block(name: &str, expected: &'static str) -> NetworkConfigCause {
    NetworkConfigCause::BlockType { found: name.to_owned(), expected }
}
