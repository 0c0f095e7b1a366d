//! Which layers are adapted, and how: `--network_module`, `--network_dim` and their like.

use super::fault::NetworkFault;
use super::{kohya, lycoris};
use crate::options::values::KeyValue;
use crate::options::{Options, SaveFormat};
use driftless::adapter::targets::{TextEncoderTargets, UnetTargets};
use driftless::adapter::{Algorithm, DropoutRates, DropoutStyle, LayerShape, TrainableOptions};

/// What the trained adapter looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSettings {
    /// The family.
    pub algorithm: Algorithm,
    /// Rank and alpha of linear layers and 1x1 convolutions.
    pub linear: RankAlpha,
    /// Rank and alpha of larger convolutions, when they are adapted.
    pub convolution: Option<RankAlpha>,
    /// Cores for larger convolutions.
    pub tucker: bool,
    /// DoRA: whether norms are per output.
    pub dora: Option<bool>,
    /// Layers of the UNet.
    pub targets: UnetTargets,
    /// Layers of the text encoder.
    pub text_encoder_targets: TextEncoderTargets,
    /// How many times faster the up matrices of each part learn (LoRA+, arXiv 2402.12354).
    pub plus: LearningRatios,
    /// Dropout.
    pub dropout: DropoutRates,
    /// What dropout means.
    pub dropout_style: DropoutStyle,
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

impl NetworkSettings {
    /// What `options` ask for.
    ///
    /// # Errors
    /// When a module or an argument is not supported, or a number out of range.
    pub fn new(options: &Options) -> Result<Self, NetworkFault> {
        let network = &options.network;
        if network.network_dim == 0 {
            return Err(NetworkFault::NoRank { option: "--network_dim" });
        }
        let mut settings = match network.network_module.as_str() {
            "networks.lora" => kohya::settings(network)?,
            "lycoris.kohya" => lycoris::settings(network)?,
            other => return Err(driftless::Error::unknown("network module", other, ["networks.lora", "lycoris.kohya"]).into()),
        };
        settings.linear = settings.linear.settled();
        settings.convolution = settings.convolution.map(RankAlpha::settled);
        settings.check(options)?;
        Ok(settings)
    }

    /// Plain LoRA on kohya's targets.
    pub(super) fn plain(linear: RankAlpha) -> Self {
        Self {
            algorithm: Algorithm::lora(),
            linear,
            convolution: None,
            tucker: false,
            dora: None,
            targets: UnetTargets::Transformers,
            text_encoder_targets: TextEncoderTargets::All,
            plus: LearningRatios { unet: 1.0, text_encoder: 1.0 },
            dropout: DropoutRates { value: 0.0, rank: 0.0, module: 0.0 },
            dropout_style: DropoutStyle::Inner,
        }
    }

    /// Whether this is LoRA without DoRA, with cores or without.
    pub fn is_lora(&self) -> bool {
        self.algorithm == Algorithm::lora() && self.dora.is_none()
    }

    fn check(&self, options: &Options) -> Result<(), NetworkFault> {
        let ratios = [self.plus.unet, self.plus.text_encoder];
        if !ratios.iter().all(|ratio| *ratio > 0.0 && ratio.is_finite()) {
            return Err(NetworkFault::Ratio);
        }
        if let Some(RankAlpha { rank, alpha }) = self.convolution {
            if rank == 0 {
                return Err(NetworkFault::NoRank { option: "--network_args conv_dim" });
            }
            if alpha < 0.0 || !alpha.is_finite() {
                return Err(NetworkFault::NegativeAlpha { found: alpha });
            }
        }
        let DropoutRates { value, rank, module } = self.dropout;
        let rates = [("dropout", value), ("rank_dropout", rank), ("module_dropout", module)];
        if let Some((key, found)) = rates.into_iter().find(|(_, rate)| !(0.0..1.0).contains(rate)) {
            return Err(NetworkFault::DropoutRate { key, found });
        }
        if self.is_lora() {
            return Ok(());
        }
        if ratios != [1.0, 1.0] {
            return Err(NetworkFault::RatioWithoutLora);
        }
        match options.output.save_model_as {
            SaveFormat::Safetensors => Ok(()),
            SaveFormat::Diffusers => Err(NetworkFault::DiffusersHoldsLora),
        }
    }

    /// What a layer's adapter is to be; `None` when it is not adapted.
    pub fn for_layer(&self, kind: LayerShape) -> Option<TrainableOptions> {
        let RankAlpha { rank, alpha } = match kind {
            LayerShape::Norm { .. } => return None,
            LayerShape::Conv2d { kernel: 2.., .. } => self.convolution?,
            LayerShape::Linear { .. } | LayerShape::Conv2d { .. } => self.linear,
        };
        Some(TrainableOptions { algorithm: self.algorithm.clone(), rank, alpha, tucker: self.tucker, dora: self.dora })
    }
}

impl RankAlpha {
    /// Alpha 0 stands for alpha = rank.
    fn settled(self) -> Self {
        Self { alpha: if self.alpha == 0.0 { self.rank as f64 } else { self.alpha }, ..self }
    }
}

/// The number of an argument.
pub(super) fn number<T: std::str::FromStr>(argument: &KeyValue) -> Result<T, NetworkFault> {
    argument.number().map_err(NetworkFault::Value)
}

/// The truth of an argument.
pub(super) fn flag(argument: &KeyValue) -> Result<bool, NetworkFault> {
    argument.flag().map_err(NetworkFault::Value)
}

/// Takes LoRA+'s and the dropouts' arguments, which both modules have; whether it was one.
pub(super) fn common(settings: &mut NetworkSettings, argument: &KeyValue) -> Result<bool, NetworkFault> {
    match argument.key.as_str() {
        "loraplus_lr_ratio" => settings.plus = LearningRatios { unet: number(argument)?, text_encoder: number(argument)? },
        "loraplus_unet_lr_ratio" => settings.plus.unet = number(argument)?,
        "loraplus_text_encoder_lr_ratio" => settings.plus.text_encoder = number(argument)?,
        "dropout" => settings.dropout.value = number(argument)?,
        "rank_dropout" => settings.dropout.rank = number(argument)?,
        "module_dropout" => settings.dropout.module = number(argument)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Names of the arguments that [`common`] takes.
pub(super) const COMMON: [&str; 6] = [
    "loraplus_lr_ratio",
    "loraplus_unet_lr_ratio",
    "loraplus_text_encoder_lr_ratio",
    "dropout",
    "rank_dropout",
    "module_dropout",
];

/// The error for an argument that a module does not take: refused by name where another program knows it.
pub(super) fn refusal(argument: &KeyValue, own: &[&'static str], elsewhere: &[&str], advice: &'static str) -> NetworkFault {
    let names: Vec<&'static str> = own.iter().copied().chain(COMMON).collect();
    let key = argument.key.as_str();
    if elsewhere.contains(&key) {
        return NetworkFault::OfAnotherProgram { key: key.to_owned(), advice, known: names.join(", ") };
    }
    NetworkFault::UnknownInArguments(driftless::Error::unknown("argument", key, names))
}
