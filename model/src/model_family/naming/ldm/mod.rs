//! The original latent diffusion (LDM) names of a pipeline's three networks, and diffusers' names for the same weights.
//!
//! Tables were read in diffusers 0.32 `loaders/single_file_utils.py` and checked against it weight by weight. They are one to one
//! and know neither widths nor the number of levels.

pub mod unet;
pub mod vae;

use super::super::{ModelFamily, Network};

/// Prefix of UNet weights.
pub const UNET_PREFIX: &str = "model.diffusion_model.";
/// Prefix of VAE weights.
pub const VAE_PREFIX: &str = "first_stage_model.";
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
pub(super) fn index(name: &str) -> Option<(usize, &str)> {
    let (digits, rest) = name.split_once('.')?;
    let canonical = matches!(digits.len(), 1..=4)
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    if canonical { Some((digits.parse().ok()?, rest)) } else { None }
}

/// Replaces the beginning of `name` by the first pair whose left side fits up to a dot.
pub(super) fn replace_head(name: &str, table: impl IntoIterator<Item = (&'static str, &'static str)>) -> Option<String> {
    table.into_iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        rest.starts_with('.').then(|| format!("{to}{rest}"))
    })
}

/// A table read from right to left.
pub(super) fn reversed(table: &'static [(&'static str, &'static str)]) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.iter().map(|(left, right)| (*right, *left))
}

/// A weight under both names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// diffusers' or transformers' name, in today's spelling.
    pub name: String,
    /// The file's name.
    pub stored: String,
    /// How the stored tensor holds the weight.
    pub packing: Packing,
}

/// How a stored tensor holds a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It is the weight.
    Whole,
    /// The weight is one of three equal runs of its rows, by number.
    Third(usize),
}

/// An entry that programs expect in an LDM file beside the weights in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filler {
    /// Its name, without the prefix.
    pub stored: String,
    /// What stands there.
    pub filling: Filling,
}

/// What stands in an entry that nothing uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filling {
    /// The numbers of another entry, by its name without the prefix.
    CopyOf(String),
    /// Ones, as many rows and columns as the text encoder is wide.
    SquareOfOnes,
    /// The number one.
    One,
}

/// A text encoder's names in LDM files; they are without the prefix in all functions.
#[derive(Debug, Clone, Copy)]
pub struct TextEncoderNaming {
    /// How its names begin.
    pub prefix: &'static str,
    /// The weights that a file with these names holds.
    pub to_diffusers: fn(&[&str]) -> Vec<Renaming>,
    /// The names of weights with these transformers names; names that have no counterpart as errors.
    pub to_ldm: fn(&[&str]) -> Result<Vec<Renaming>, Vec<String>>,
    /// Names that are known and not used.
    pub unused: fn(&[&str]) -> Vec<String>,
    /// What a file with these names lacks of what programs look for.
    pub fillers: fn(&[&str]) -> Vec<Filler>,
}

/// How a network's names begin in a family's checkpoints; a ControlNet is in none.
pub fn prefix(family: &ModelFamily, network: Network) -> Option<&'static str> {
    match network {
        Network::Unet => Some(UNET_PREFIX),
        Network::Vae => Some(VAE_PREFIX),
        Network::TextEncoder => Some(family.text_encoder.prefix),
        Network::ControlNet => None,
    }
}

/// The weights of a network in a checkpoint that has entries of these names. Entries that belong to another network, are dropped
/// ([`is_dropped`]) or are not understood are not in it.
pub fn table<'a>(names: impl Iterator<Item = &'a str>, family: &ModelFamily, network: Network) -> Vec<Renaming> {
    let Some(prefix) = prefix(family, network) else { return Vec::new() };
    let names = names.filter_map(|name| name.strip_prefix(prefix)).filter(|name| !is_dropped(&format!("{prefix}{name}")));
    let stored: Vec<&str> = names.collect();
    let found = match network {
        Network::Unet => {
            let layout = unet::UnetLayout::from_ldm(stored.iter().copied());
            renamed(&stored, |name| layout.as_ref()?.to_diffusers(name))
        }
        Network::Vae => {
            let layout = vae::VaeLayout::from_ldm(stored.iter().copied());
            renamed(&stored, |name| layout?.to_diffusers(name))
        }
        Network::TextEncoder => (family.text_encoder.to_diffusers)(&stored),
        Network::ControlNet => Vec::new(),
    };
    found.into_iter().map(|one| Renaming { stored: format!("{prefix}{}", one.stored), ..one }).collect()
}

/// Where weights with these diffusers names (in today's spelling) stand in a family's checkpoint. Names that have no counterpart there are
/// answered as errors, in the order given.
///
/// # Errors
/// The names that have no counterpart in an LDM checkpoint.
pub fn table_to_ldm<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    family: &ModelFamily,
    network: Network,
) -> Result<Vec<Renaming>, Vec<String>> {
    let own: Vec<&str> = names.collect();
    let back = match network {
        Network::Unet => {
            let layout = unet::UnetLayout::from_diffusers(own.iter().copied());
            all_renamed(&own, |name| layout.as_ref()?.to_ldm(name))
        }
        Network::Vae => {
            let layout = vae::VaeLayout::from_diffusers(own.iter().copied());
            all_renamed(&own, |name| layout?.to_ldm(name))
        }
        Network::TextEncoder => (family.text_encoder.to_ldm)(&own),
        Network::ControlNet => all_renamed(&own, |_| None),
    }?;
    let prefix = prefix(family, network).unwrap_or_default();
    Ok(back.into_iter().map(|one| Renaming { stored: format!("{prefix}{}", one.stored), ..one }).collect())
}

/// Names of the text encoder, of all those in a checkpoint, that are known and not used.
pub fn unused<'a>(names: impl Iterator<Item = &'a str>, family: &ModelFamily) -> Vec<String> {
    let prefix = family.text_encoder.prefix;
    let stored: Vec<&str> = names.filter_map(|name| name.strip_prefix(prefix)).collect();
    (family.text_encoder.unused)(&stored).into_iter().map(|name| format!("{prefix}{name}")).collect()
}

/// Weights that stand alone in their tensors; those without a name in the other naming are left out.
fn renamed(stored: &[&str], translate: impl Fn(&str) -> Option<String>) -> Vec<Renaming> {
    let one = |stored: &&str| Some(Renaming { name: translate(stored)?, stored: (*stored).to_owned(), packing: Packing::Whole });
    stored.iter().filter_map(one).collect()
}

/// The other way round; names without one in the other naming are errors.
fn all_renamed(names: &[&str], translate: impl Fn(&str) -> Option<String>) -> Result<Vec<Renaming>, Vec<String>> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match translate(name) {
            Some(stored) => found.push(Renaming { name: (*name).to_owned(), stored, packing: Packing::Whole }),
            None => unknown.push((*name).to_owned()),
        }
    }
    if unknown.is_empty() { Ok(found) } else { Err(unknown) }
}
