//! The original latent diffusion (LDM) names of SD1.5's three networks, and diffusers' names for the same weights.
//!
//! Tables were read in diffusers 0.32 `loaders/single_file_utils.py` and checked against it weight by weight. They are one to one
//! and know neither widths nor the number of levels.

pub mod unet;
pub mod vae;

/// Prefix of UNet weights.
pub const UNET_PREFIX: &str = "model.diffusion_model.";
/// Prefix of VAE weights.
pub const VAE_PREFIX: &str = "first_stage_model.";
/// Prefix of text encoder weights; what follows is the transformers name.
pub const TEXT_ENCODER_PREFIX: &str = "cond_stage_model.transformer.";
/// Prefix of the exponential moving averages of UNet weights.
pub const EMA_PREFIX: &str = "model_ema.";

/// Constants of the noise schedule, and counters.
const DROPPED_NAMES: [&str; 15] = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "logvar",
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "epoch",
    "global_step",
    "hyper_parameters",
    "pytorch-lightning_version",
];

/// Beginnings of names of other things than weights in use.
const DROPPED_PREFIXES: [&str; 6] =
    ["posterior_", EMA_PREFIX, "first_stage_model.loss.", "callbacks", "optimizer_states", "lr_schedulers"];

/// Whether a checkpoint's entry is known and holds none of the three networks' weights.
pub fn is_dropped(name: &str) -> bool {
    DROPPED_NAMES.contains(&name)
        || DROPPED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.ends_with(".position_ids")
}

/// Name of the moving average of the UNet weight with this LDM name: what follows `model.`, every dot removed.
pub fn ema_name(unet_name: &str) -> Option<String> {
    let inner = unet_name.strip_prefix("model.")?;
    Some(format!("{EMA_PREFIX}{}", inner.replace('.', "")))
}

/// Reads a leading index and the dot after it: `3.conv` gives 3 and `conv`.
fn index(name: &str) -> Option<(usize, &str)> {
    let (digits, rest) = name.split_once('.')?;
    let canonical = matches!(digits.len(), 1..=4)
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    if canonical { Some((digits.parse().ok()?, rest)) } else { None }
}

/// Replaces the beginning of `name` by the first pair whose left side fits up to a dot.
fn replace_head(name: &str, table: impl IntoIterator<Item = (&'static str, &'static str)>) -> Option<String> {
    table.into_iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        rest.starts_with('.').then(|| format!("{to}{rest}"))
    })
}

/// A table read from right to left.
fn reversed(table: &'static [(&'static str, &'static str)]) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.iter().map(|(left, right)| (*right, *left))
}

/// A name in the other naming, if it has one.
type Translation = Box<dyn Fn(&str) -> Option<String>>;

/// One of the three networks in an LDM checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The noise predictor.
    Unet,
    /// The autoencoder.
    Vae,
    /// The text encoder.
    TextEncoder,
}

impl Part {
    /// All three, in the order in which a pipeline folder lists them.
    pub const ALL: [Self; 3] = [Self::Unet, Self::Vae, Self::TextEncoder];

    /// How the part's names begin in a checkpoint.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Unet => UNET_PREFIX,
            Self::Vae => VAE_PREFIX,
            Self::TextEncoder => TEXT_ENCODER_PREFIX,
        }
    }

    /// The part's folder in a pipeline.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.folder())
    }
}

/// Pairs of diffusers name and checkpoint name of a part's weights, for a checkpoint that has entries of these names. Entries that
/// belong to another part, are dropped ([`is_dropped`]) or are not understood are not in it.
pub fn table<'a>(names: impl Iterator<Item = &'a str>, part: Part) -> Vec<(String, String)> {
    let stored: Vec<&str> = names.filter_map(|name| name.strip_prefix(part.prefix())).collect();
    let translate: Translation = match part {
        Part::Unet => match unet::UnetLayout::from_ldm(stored.iter().copied()) {
            Some(layout) => Box::new(move |name| layout.to_diffusers(name)),
            None => Box::new(|_| None),
        },
        Part::Vae => match vae::VaeLayout::from_ldm(stored.iter().copied()) {
            Some(layout) => Box::new(move |name| layout.to_diffusers(name)),
            None => Box::new(|_| None),
        },
        Part::TextEncoder => Box::new(|name| Some(super::text_encoder::with_level(name))),
    };
    let whole = |name: &str| format!("{}{name}", part.prefix());
    stored.iter().filter(|name| !is_dropped(&whole(name))).filter_map(|name| Some((translate(name)?, whole(name)))).collect()
}

/// Pairs of diffusers name (in today's spelling) and checkpoint name for weights that have these diffusers names. Names that are
/// not understood are answered as errors, sorted.
///
/// # Errors
/// The names that have no place in an LDM checkpoint.
pub fn table_to_ldm<'a>(names: impl Iterator<Item = &'a str> + Clone, part: Part) -> Result<Vec<(String, String)>, Vec<String>> {
    let translate: Translation = match part {
        Part::Unet => match unet::UnetLayout::from_diffusers(names.clone()) {
            Some(layout) => Box::new(move |name| layout.to_ldm(name)),
            None => Box::new(|_| None),
        },
        Part::Vae => match vae::VaeLayout::from_diffusers(names.clone()) {
            Some(layout) => Box::new(move |name| layout.to_ldm(name)),
            None => Box::new(|_| None),
        },
        Part::TextEncoder => Box::new(|name| Some(super::text_encoder::with_level(name))),
    };
    let mut pairs = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match translate(name) {
            Some(ldm) => pairs.push((name.to_owned(), format!("{}{ldm}", part.prefix()))),
            None => unknown.push(name.to_owned()),
        }
    }
    if unknown.is_empty() { Ok(pairs) } else { Err(unknown) }
}
