//! `--network_module lycoris.kohya`: arguments, defaults and presets as in LyCORIS 4.1.3 `kohya.py` and `config.py`.
//!
//! LyCORIS trains with the rebuilt weight, in which ordinary dropout has no effect (its `dropout` says so or is silent); it is refused
//! here. `rank_dropout` is there a dropout of rows of the change.

use super::fault::NetworkFault;
use super::settings::{NetworkSettings, RankAlpha, common, flag, number, refusal};
use crate::options::NetworkOptions;
use crate::options::values::KeyValue;
use driftless::adapter::targets::{TextEncoderTargets, UnetTargets};
use driftless::adapter::{Algorithm, Argument, DropoutStyle, Value};

/// Arguments of this module, beside those of its families.
const OWN: [&str; 12] = [
    "algo",
    "preset",
    "conv_dim",
    "conv_alpha",
    "use_tucker",
    "use_cp",
    "use_conv_cp",
    "disable_conv_cp",
    "dora_wd",
    "wd_on_output",
    "rs_lora",
    "rank_dropout_scale",
];

/// Switches of LyCORIS' that can be off alone; kohya_ss' interface writes them all.
const SWITCHED_OFF: [&str; 5] = ["train_norm", "use_scalar", "bypass_mode", "rescaled", "unbalanced_factorization"];

/// Arguments of LyCORIS' that are refused by name, because an adapter without them would be another one.
const ELSEWHERE: [&str; 3] = ["block_size", "constraint", "unet_targets"];

/// What the options say.
pub(super) fn settings(network: &NetworkOptions) -> Result<NetworkSettings, NetworkFault> {
    let linear = RankAlpha { rank: network.network_dim, alpha: network.network_alpha };
    let mut settings = NetworkSettings {
        convolution: Some(linear),
        targets: UnetTargets::Everything,
        dropout_style: DropoutStyle::Rows { rescale: false },
        ..NetworkSettings::plain(linear)
    };
    let mut of_family = Vec::new();
    let (mut preset, mut convolution, mut dora, mut per_output, mut rs_lora) = ("full", linear, false, true, false);
    settings.dropout.value = network.network_dropout.unwrap_or(0.0);
    for argument in &network.network_args {
        match argument.key.as_str() {
            "algo" => settings.algorithm = algorithm(&argument.value)?,
            "preset" => preset = argument.value.as_str(),
            "conv_dim" => convolution.rank = number(argument)?,
            "conv_alpha" => convolution.alpha = number(argument)?,
            "use_tucker" | "use_cp" | "use_conv_cp" => settings.tucker |= flag(argument)?,
            "disable_conv_cp" => settings.tucker |= !flag(argument)?,
            "dora_wd" => dora = flag(argument)?,
            "wd_on_output" => per_output = flag(argument)?,
            "rs_lora" => rs_lora = flag(argument)?,
            "rank_dropout_scale" => settings.dropout_style = DropoutStyle::Rows { rescale: flag(argument)? },
            name if SWITCHED_OFF.contains(&name) => {
                if flag(argument)? {
                    return Err(NetworkFault::NotSupported { key: name.to_owned() });
                }
            }
            _ if common(&mut settings, argument)? => {}
            name => match Algorithm::all_arguments().find(|(_, known)| known.name == name) {
                Some((algorithm, known)) => of_family.push((algorithm, known, value(argument, known)?)),
                None => return Err(refusal(argument, &own(), &ELSEWHERE, "")),
            },
        }
    }
    for (algorithm, argument, value) in of_family {
        if settings.algorithm.name() == algorithm {
            settings.algorithm = settings.algorithm.with(argument.name, value).map_err(NetworkFault::ValueOfFamily)?;
        } else if value != argument.default {
            return Err(NetworkFault::OfAnotherAlgorithm { key: argument.name, algorithm });
        }
    }
    if settings.dropout.value != 0.0 {
        return Err(NetworkFault::DropoutOfRebuiltWeight);
    }
    if !settings.algorithm.takes_magnitudes() {
        let algorithm = settings.algorithm.name();
        if dora {
            return Err(NetworkFault::NoMagnitudes { algorithm });
        }
        if settings.dropout.rank != 0.0 {
            return Err(NetworkFault::NoRankDropout { algorithm });
        }
    }
    settings.dora = dora.then_some(per_output);
    settings.convolution = (convolution.rank > 0).then_some(convolution);
    apply_preset(&mut settings, preset)?;
    if rs_lora {
        settings.linear = over_root(settings.linear);
        settings.convolution = settings.convolution.map(over_root);
    }
    Ok(settings)
}

/// rsLoRA (arXiv 2312.03732) divides by the root of the rank; an alpha larger by the root says the same.
fn over_root(RankAlpha { rank, alpha }: RankAlpha) -> RankAlpha {
    let alpha = if alpha == 0.0 { rank as f64 } else { alpha };
    RankAlpha { rank, alpha: alpha * (rank as f64).sqrt() }
}

/// The names of all arguments.
fn own() -> Vec<&'static str> {
    OWN.into_iter().chain(Algorithm::all_arguments().map(|(_, argument)| argument.name)).collect()
}

/// The value of a family's argument, of the type that it has there.
fn value(given: &KeyValue, argument: &Argument) -> Result<Value, NetworkFault> {
    Ok(match argument.default {
        Value::Number(_) => Value::Number(number(given)?),
        Value::Flag(_) => Value::Flag(flag(given)?),
    })
}

fn algorithm(name: &str) -> Result<Algorithm, NetworkFault> {
    let name = name.to_ascii_lowercase();
    let known = || Algorithm::names().collect::<Vec<_>>().join(", ");
    if Algorithm::untrained().any(|other| other == name) {
        return Err(NetworkFault::NotTrained { found: name, known: known() });
    }
    Algorithm::named(&name).map_err(|error| NetworkFault::UnknownAlgorithm { error, known: known() })
}

/// LyCORIS' presets for SD1.5: layers, and whether larger convolutions are among them.
fn apply_preset(settings: &mut NetworkSettings, name: &str) -> Result<(), NetworkFault> {
    use TextEncoderTargets::{All, Attention, None};
    let (unet, text_encoder, convolutions) = match name {
        "full" => (UnetTargets::Everything, All, true),
        "full-lin" => (UnetTargets::Everything, All, false),
        "attn-mlp" => (UnetTargets::Transformers, All, false),
        "attn-only" => (UnetTargets::Attention, Attention, false),
        "unet-only" => (UnetTargets::Everything, None, true),
        "unet-transformer-only" => (UnetTargets::Transformers, None, false),
        "unet-convblock-only" => (UnetTargets::Convolutions, None, true),
        other => {
            let names =
                ["full", "full-lin", "attn-mlp", "attn-only", "unet-only", "unet-transformer-only", "unet-convblock-only"];
            return Err(NetworkFault::UnknownInArguments(driftless::Error::unknown("preset", other, names)));
        }
    };
    (settings.targets, settings.text_encoder_targets) = (unet, text_encoder);
    if !convolutions {
        settings.convolution = Option::None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use driftless::adapter::LayerShape;

    fn settings(arguments: &[&str]) -> Result<NetworkSettings, NetworkFault> {
        let module = ["--network_module=lycoris.kohya", "--network_dim=8", "--network_alpha=4", "--network_args"];
        NetworkSettings::new(&Options::of(&[&module[..], arguments].concat()))
    }

    #[test]
    fn defaults_are_those_of_lycoris() {
        let found = settings(&["algo=loha"]).unwrap();
        assert_eq!((found.algorithm.clone(), found.targets), (Algorithm::named("loha").unwrap(), UnetTargets::Everything));
        // Larger convolutions share rank and alpha unless told otherwise.
        assert_eq!(found.convolution, Some(RankAlpha { rank: 8, alpha: 4.0 }));
        let wide = LayerShape::Conv2d { c_in: 4, c_out: 4, kernel: 3 };
        assert_eq!(found.for_layer(wide).unwrap().rank, 8);
        assert_eq!(settings(&["conv_dim=0"]).unwrap().for_layer(wide), None);
        assert_eq!(settings(&["algo=locon", "preset=attn-mlp"]).unwrap().for_layer(wide), None);
    }

    #[test]
    fn arguments_of_families() {
        let found = settings(&["factor=8", "algo=lokr", "decompose_both=True", "use_tucker=True", "dora_wd=True"]).unwrap();
        let lokr = Algorithm::named("lokr").unwrap();
        let expected = lokr.with("factor", Value::Number(8)).unwrap().with("decompose_both", Value::Flag(true)).unwrap();
        assert_eq!((found.algorithm, found.tucker, found.dora), (expected, true, Some(true)));
        assert_eq!(settings(&["dora_wd=True", "wd_on_output=False"]).unwrap().dora, Some(false));
        assert_eq!(settings(&["rs_lora=True"]).unwrap().linear.alpha, 4.0 * 8f64.sqrt());
        // What kohya_ss' interface writes for LyCORIS' LoCon.
        let interface = "preset=full conv_dim=32 conv_alpha=1 rank_dropout=0 bypass_mode=False dora_wd=False module_dropout=0 \
                         use_tucker=False use_scalar=False rank_dropout_scale=False algo=locon train_norm=False";
        let locon = settings(&interface.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>()).unwrap();
        assert_eq!((locon.algorithm, locon.convolution), (Algorithm::lora(), Some(RankAlpha { rank: 32, alpha: 1.0 })));
        let dropped = settings(&["rank_dropout=0.1", "rank_dropout_scale=True"]).unwrap();
        assert_eq!((dropped.dropout.rank, dropped.dropout_style), (0.1, DropoutStyle::Rows { rescale: true }));
        assert_eq!(settings(&["preset=attn-only"]).unwrap().text_encoder_targets, TextEncoderTargets::Attention);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (arguments, expected) in [
            (vec!["algo=lohra"], "did you mean `lo"),
            (vec!["algo=boft"], "there are lora, locon, loha, lokr, full"),
            (vec!["algo=glora"], "glora is not supported: its files are read and converted, not trained; there are lora, locon"),
            (vec!["algo=diag-oft"], "diag-oft is not supported"),
            (vec!["algo=loha", "factor=4"], "for algo=lokr"),
            (vec!["algo=lokr", "factor=0"], "must be -1 or above 0"),
            (vec!["preset=half"], "preset"),
            (vec!["dropout=0.1"], "no effect in LyCORIS"),
            (vec!["algo=full", "dora_wd=True"], "not for algo=full"),
            (vec!["algo=loha", "loraplus_lr_ratio=2"], "LoRA+"),
            (vec!["block_size=4"], "not supported"),
            (vec!["train_norm=True"], "train_norm is not supported"),
            (vec!["bypass_mode=True"], "bypass_mode is not supported"),
            (vec!["algo=loha", "--save_model_as=diffusers"], "convert diffusers"),
        ] {
            let message = settings(&arguments).unwrap_err().to_string();
            assert!(message.contains(expected), "{arguments:?}: {message}");
        }
    }
}
