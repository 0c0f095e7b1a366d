//! `--network_module networks.lora`: arguments as in sd-scripts 48d368f `networks/lora.py`.
//!
//! Deliberate difference: `dropout=P` in `--network_args` means `--network_dropout P`; kohya's LoRA ignores it.

use super::fault::NetworkFault;
use super::settings::{NetworkSettings, RankAlpha, common, number, refusal};
use crate::options::NetworkOptions;
use driftless::adapter::targets::UnetTargets;

/// Arguments of this module.
const OWN: [&str; 3] = ["conv_dim", "conv_alpha", "unet_targets"];

/// Arguments that are known elsewhere and refused by name, because an adapter without them would be another one.
const ELSEWHERE: [&str; 17] = [
    "algo",
    "preset",
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

/// What the options say.
pub(super) fn settings(network: &NetworkOptions) -> Result<NetworkSettings, NetworkFault> {
    let mut settings = NetworkSettings::plain(RankAlpha { rank: network.network_dim, alpha: network.network_alpha });
    let (mut conv_rank, mut conv_alpha) = (None, 1.0);
    settings.dropout.value = network.network_dropout.unwrap_or(0.0);
    for argument in &network.network_args {
        match argument.key.as_str() {
            "conv_dim" => conv_rank = Some(number(argument)?),
            "conv_alpha" => conv_alpha = number(argument)?,
            "unet_targets" => settings.targets = argument.value.parse()?,
            "dropout" if network.network_dropout.is_some() => {
                let given: f64 = number(argument)?;
                if Some(given) != network.network_dropout {
                    return Err(NetworkFault::TwoDropouts { found: given });
                }
            }
            "algo" => {
                let advice = " by networks.lora (--network_module lycoris.kohya has it)";
                return Err(refusal(argument, &OWN, &ELSEWHERE, advice));
            }
            _ if common(&mut settings, argument)? => {}
            _ => return Err(refusal(argument, &OWN, &ELSEWHERE, "")),
        }
    }
    if let Some(rank) = conv_rank {
        settings.convolution = Some(RankAlpha { rank, alpha: conv_alpha });
        settings.targets = UnetTargets::TransformersAndConvolutions;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::super::settings::LearningRatios;
    use super::*;
    use crate::options::Options;
    use driftless::adapter::{DropoutRates, DropoutStyle, LayerShape};

    fn settings(arguments: &[&str]) -> Result<NetworkSettings, NetworkFault> {
        NetworkSettings::new(&Options::of(arguments))
    }

    fn rank_alpha(settings: &NetworkSettings, kernel: usize) -> Option<(usize, f64)> {
        settings.for_layer(LayerShape::Conv2d { c_in: 4, c_out: 4, kernel }).map(|options| (options.rank, options.alpha))
    }

    #[test]
    fn plain_lora() {
        let plain = settings(&["--network_dim=64", "--network_alpha=32"]).unwrap();
        assert_eq!(plain, NetworkSettings::plain(RankAlpha { rank: 64, alpha: 32.0 }));
        assert_eq!((rank_alpha(&plain, 1), rank_alpha(&plain, 3)), (Some((64, 32.0)), None));
        assert_eq!(settings(&["--network_dim=8", "--network_alpha=0"]).unwrap().linear.alpha, 8.0);
    }

    #[test]
    fn convolutions_have_their_own_rank() {
        let locon = settings(&["--network_dim=64", "--network_args", "conv_dim=32", "loraplus_lr_ratio=16"]).unwrap();
        assert_eq!(rank_alpha(&locon, 3), Some((32, 1.0)));
        assert_eq!(locon.targets, UnetTargets::TransformersAndConvolutions);
        assert_eq!(locon.plus, LearningRatios { unet: 16.0, text_encoder: 16.0 });
    }

    #[test]
    fn dropouts() {
        let dropped = settings(&["--network_dropout=0.1", "--network_args", "rank_dropout=0.2", "module_dropout=0.3"]).unwrap();
        assert_eq!(dropped.dropout, DropoutRates { value: 0.1, rank: 0.2, module: 0.3 });
        assert_eq!(dropped.dropout_style, DropoutStyle::Inner);
        assert_eq!(settings(&["--network_args=dropout=0.4"]).unwrap().dropout.value, 0.4);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (arguments, expected) in [
            (vec!["--network_dim=0"], "at least 1"),
            (vec!["--network_module=networks.lroa"], "did you mean `networks.lora`"),
            (vec!["--network_args=algo=loha"], "lycoris.kohya has it"),
            (vec!["--network_args=conv_dmi=3"], "did you mean `conv_dim`"),
            (vec!["--network_args=conv_dim=three"], "conv_dim=three"),
            (vec!["--network_args=loraplus_lr_ratio=0"], "above 0"),
            (vec!["--network_args=rank_dropout=1"], "below 1"),
            (vec!["--network_dropout=0.1", "--network_args=dropout=0.2"], "two names"),
        ] {
            let message = settings(&arguments).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
