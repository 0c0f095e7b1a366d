//! Which layers are adapted, and how: `--network_module`, `--network_dim` and their like.
//!
//! Meaning of the arguments as in sd-scripts 48d368f `networks/lora.py`.

use crate::options::Options;
use anyhow::{Result, anyhow, bail, ensure};
use driftless::adapter::LayerKind;
use driftless::adapter::targets::UnetTargets;

/// What the trained adapter looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSettings {
    /// Rank and alpha of linear layers and 1x1 convolutions.
    pub linear: RankAlpha,
    /// Rank and alpha of larger convolutions, when they are adapted.
    pub convolution: Option<RankAlpha>,
    /// Layers of the UNet.
    pub targets: UnetTargets,
    /// How many times faster the up matrices of each part learn (LoRA+, arXiv 2402.12354).
    pub plus: LearningRatios,
}

/// Rank and alpha; the adapter is scaled by `alpha / rank`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankAlpha {
    /// Columns of the up matrix.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
}

/// LoRA+'s ratios, 1 without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRatios {
    /// UNet.
    pub unet: f64,
    /// Text encoder.
    pub text_encoder: f64,
}

/// Arguments of kohya's and LyCORIS' that are refused by name, because an adapter without them would be another one.
const REFUSED: [&str; 20] = [
    "algo",
    "preset",
    "dropout",
    "rank_dropout",
    "module_dropout",
    "block_dims",
    "block_alphas",
    "conv_block_dims",
    "conv_block_alphas",
    "down_lr_weight",
    "mid_lr_weight",
    "up_lr_weight",
    "block_lr_zero_threshold",
    "use_tucker",
    "use_scalar",
    "factor",
    "dora_wd",
    "decompose_both",
    "rs_lora",
    "train_norm",
];

impl NetworkSettings {
    /// What `options` ask for.
    ///
    /// # Errors
    /// When a module or an argument is not supported, or a number out of range.
    pub fn new(options: &Options) -> Result<Self> {
        let network = &options.network;
        match network.network_module.as_str() {
            "networks.lora" => {}
            "lycoris.kohya" => bail!(
                "--network_module lycoris.kohya is not supported yet; networks.lora with --network_args conv_dim=N conv_alpha=A adapts the \
                 same layers as LyCORIS' LoCon"
            ),
            other => return Err(driftless::Error::unknown("network module", other, ["networks.lora"]).into()),
        }
        ensure!(network.network_dim > 0, "--network_dim is 0; a rank must be at least 1");
        let mut settings = Self {
            linear: RankAlpha { rank: network.network_dim, alpha: network.network_alpha },
            convolution: None,
            targets: UnetTargets::Transformers,
            plus: LearningRatios { unet: 1.0, text_encoder: 1.0 },
        };
        let (mut conv_rank, mut conv_alpha) = (None, 1.0);
        for argument in &network.network_args {
            let number = || argument.number::<f64>().map_err(|problem| anyhow!("--network_args {problem}"));
            match argument.key.as_str() {
                "conv_dim" => {
                    conv_rank = Some(argument.number::<usize>().map_err(|problem| anyhow!("--network_args {problem}"))?)
                }
                "conv_alpha" => conv_alpha = number()?,
                "unet_targets" => settings.targets = argument.value.parse()?,
                "loraplus_lr_ratio" => settings.plus = LearningRatios { unet: number()?, text_encoder: number()? },
                "loraplus_unet_lr_ratio" => settings.plus.unet = number()?,
                "loraplus_text_encoder_lr_ratio" => settings.plus.text_encoder = number()?,
                refused if REFUSED.contains(&refused) => {
                    bail!(
                        "--network_args {refused} is not supported; there are conv_dim, conv_alpha, unet_targets and loraplus_*_lr_ratio"
                    )
                }
                unknown => {
                    let names = [
                        "conv_dim",
                        "conv_alpha",
                        "unet_targets",
                        "loraplus_lr_ratio",
                        "loraplus_unet_lr_ratio",
                        "loraplus_text_encoder_lr_ratio",
                    ];
                    bail!("--network_args: {}", driftless::Error::unknown("argument", unknown, names));
                }
            }
        }
        if let Some(rank) = conv_rank {
            ensure!(rank > 0, "--network_args conv_dim is 0; a rank must be at least 1");
            settings.convolution = Some(RankAlpha { rank, alpha: conv_alpha }.settled());
            settings.targets = UnetTargets::TransformersAndConvolutions;
        }
        settings.linear = settings.linear.settled();
        let ratios = [settings.plus.unet, settings.plus.text_encoder];
        ensure!(ratios.iter().all(|ratio| *ratio > 0.0 && ratio.is_finite()), "--network_args: LoRA+ ratios must be above 0");
        ensure!(conv_alpha >= 0.0 && conv_alpha.is_finite(), "--network_args conv_alpha={conv_alpha} must not be negative");
        Ok(settings)
    }

    /// Rank and alpha for a layer; `None` when it is not adapted.
    pub fn for_layer(&self, kind: LayerKind) -> Option<RankAlpha> {
        match kind {
            LayerKind::Conv2d { kernel, .. } if kernel > 1 => self.convolution,
            _ => Some(self.linear),
        }
    }
}

impl RankAlpha {
    /// Alpha 0 stands for alpha = rank.
    fn settled(self) -> Self {
        Self { alpha: if self.alpha == 0.0 { self.rank as f64 } else { self.alpha }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<NetworkSettings> {
        NetworkSettings::new(&Options::of(arguments))
    }

    #[test]
    fn plain_lora() {
        let plain = settings(&["--network_dim=64", "--network_alpha=32"]).unwrap();
        assert_eq!(plain.linear, RankAlpha { rank: 64, alpha: 32.0 });
        assert_eq!(plain.targets, UnetTargets::Transformers);
        assert_eq!(plain.for_layer(LayerKind::Conv2d { c_in: 4, c_out: 4, kernel: 1 }), Some(plain.linear));
        assert_eq!(plain.for_layer(LayerKind::Conv2d { c_in: 4, c_out: 4, kernel: 3 }), None);
        assert_eq!(settings(&["--network_dim=8", "--network_alpha=0"]).unwrap().linear.alpha, 8.0);
    }

    #[test]
    fn convolutions_have_their_own_rank() {
        let locon = settings(&["--network_dim=64", "--network_args", "conv_dim=32", "loraplus_lr_ratio=16"]).unwrap();
        assert_eq!(locon.for_layer(LayerKind::Conv2d { c_in: 4, c_out: 4, kernel: 3 }), Some(RankAlpha { rank: 32, alpha: 1.0 }));
        assert_eq!(locon.targets, UnetTargets::TransformersAndConvolutions);
        assert_eq!(locon.plus, LearningRatios { unet: 16.0, text_encoder: 16.0 });
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (arguments, expected) in [
            (vec!["--network_dim=0"], "at least 1"),
            (vec!["--network_module=lycoris.kohya"], "lycoris.kohya"),
            (vec!["--network_module=networks.lroa"], "did you mean `networks.lora`"),
            (vec!["--network_args=algo=loha"], "algo is not supported"),
            (vec!["--network_args=conv_dmi=3"], "did you mean `conv_dim`"),
            (vec!["--network_args=conv_dim=three"], "conv_dim=three"),
            (vec!["--network_args=loraplus_lr_ratio=0"], "above 0"),
        ] {
            let message = settings(&arguments).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
