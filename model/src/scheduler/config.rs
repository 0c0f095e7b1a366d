//! A `scheduler_config.json` as diffusers 0.32.2 reads it: entries that are missing take the default of the named class, entries that
//! the class does not know are passed over, and another class can be built from the same entries (`Scheduler.from_config`).
//!
//! Deliberate differences: a setting of the class that is not built here is refused by name, and so are values that diffusers would
//! only trip over later (a beta outside 0..1, a list of betas of the wrong length).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{ConfigCause, Error, FileCause, Result};
use crate::formats::{FileKind, read_bounded};

/// Most training timesteps that are accepted; every published model has 1000, and the tables grow with it.
const MAX_TRAIN_TIMESTEPS: usize = 100_000;

/// An enum whose values have names in a configuration file.
macro_rules! named_choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in a configuration file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

named_choice! {
    /// The schedulers that are built here, by diffusers' class names.
    SchedulerClass {
        /// [`super::Pndm`].
        Pndm = "PNDMScheduler",
        /// [`super::Ddim`].
        Ddim = "DDIMScheduler",
        /// [`super::DdimInverse`].
        DdimInverse = "DDIMInverseScheduler",
        /// [`super::Ddpm`].
        Ddpm = "DDPMScheduler",
        /// [`super::EulerDiscrete`].
        EulerDiscrete = "EulerDiscreteScheduler",
        /// [`super::EulerAncestralDiscrete`].
        EulerAncestralDiscrete = "EulerAncestralDiscreteScheduler",
    }
}

named_choice! {
    /// How the noise added per training timestep grows.
    BetaSchedule {
        /// Betas on a line.
        Linear = "linear",
        /// Square roots of betas on a line; Stable Diffusion's.
        ScaledLinear = "scaled_linear",
        /// The cosine schedule of arXiv 2102.09672, betas capped at 0.999.
        SquaredCosine = "squaredcos_cap_v2",
    }
}

named_choice! {
    /// What the network's output means.
    PredictionType {
        /// The added noise.
        Epsilon = "epsilon",
        /// `sqrt(a) * noise - sqrt(1 - a) * sample` (arXiv 2202.00512).
        Velocity = "v_prediction",
        /// The clean sample.
        Sample = "sample",
    }
}

named_choice! {
    /// How inference timesteps are spread over training timesteps (arXiv 2305.08891, table 2).
    TimestepSpacing {
        /// From the first to the last timestep, both included.
        Linspace = "linspace",
        /// Multiples of a whole stride, counted from the clean end, plus `steps_offset`.
        Leading = "leading",
        /// Multiples of the exact stride, counted from the noisy end.
        Trailing = "trailing",
    }
}

named_choice! {
    /// The variance of a DDPM step.
    VarianceType {
        /// The posterior's variance.
        FixedSmall = "fixed_small",
        /// The step's beta.
        FixedLarge = "fixed_large",
    }
}

named_choice! {
    /// The sigma after the last Euler step.
    FinalSigma {
        /// No noise.
        Zero = "zero",
        /// The noise of training timestep 0.
        SigmaMin = "sigma_min",
    }
}

/// The entries of the file, as written; `None` where missing or `null`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Entries {
    #[serde(rename = "_class_name")]
    class_name: Option<String>,
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<Vec<f64>>,
    prediction_type: Option<String>,
    timestep_spacing: Option<String>,
    steps_offset: Option<usize>,
    rescale_betas_zero_snr: Option<bool>,
    skip_prk_steps: Option<bool>,
    set_alpha_to_one: Option<bool>,
    set_alpha_to_zero: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f64>,
    thresholding: Option<bool>,
    variance_type: Option<String>,
    interpolation_type: Option<String>,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    timestep_type: Option<String>,
    final_sigmas_type: Option<String>,
}

/// The settings of one scheduler, defaults filled in. Settings that the class does not have are neutral.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    entries: Entries,
    path: PathBuf,
    pub(super) class: SchedulerClass,
    pub(super) num_train_timesteps: usize,
    pub(super) beta_start: f64,
    pub(super) beta_end: f64,
    pub(super) beta_schedule: BetaSchedule,
    pub(super) trained_betas: Option<Vec<f64>>,
    pub(super) prediction_type: PredictionType,
    pub(super) timestep_spacing: TimestepSpacing,
    pub(super) steps_offset: usize,
    pub(super) rescale_betas_zero_snr: bool,
    pub(super) skip_prk_steps: bool,
    pub(super) set_alpha_to_one: bool,
    /// The largest magnitude of a predicted clean sample.
    pub(super) clip_sample: Option<f64>,
    pub(super) variance_type: VarianceType,
    pub(super) final_sigma: FinalSigma,
}

impl SchedulerConfig {
    /// Reads a `scheduler_config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::File`] when it is not such a file, [`Error::Config`] naming the entry when
    /// a class or setting is not supported.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_json(&read_bounded(path, FileKind::Configuration)?, path)
    }

    /// Parses the text of a `scheduler_config.json`; `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Config`] as in [`SchedulerConfig::from_file`].
    pub fn from_json(json: &[u8], path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let entries: Entries = serde_json::from_slice(json).map_err(|error| {
            let advice = "give the scheduler_config.json of a diffusers folder";
            Error::file(path, FileCause::Json { expected: "a scheduler configuration", source: error }, advice)
        })?;
        let class_name = entries.class_name.as_deref();
        let Some(class) = class_name.and_then(SchedulerClass::from_name) else {
            let (found, supported) = (class_name.map(str::to_owned), names(SchedulerClass::ALL));
            return Err(Error::config(path, "_class_name", ConfigCause::Unsupported { found, supported }));
        };
        resolve(entries, class, path)
    }

    /// A scheduler over Stable Diffusion 1's noise (1000 training timesteps, scaled linear betas from 0.00085 to 0.012), every other
    /// setting at the default of its class. With [`SchedulerClass::Ddpm`] this is the noise that training adds.
    pub fn stable_diffusion(class: SchedulerClass) -> Self {
        let entries = Entries {
            num_train_timesteps: Some(1000),
            beta_start: Some(0.00085),
            beta_end: Some(0.012),
            beta_schedule: Some(BetaSchedule::ScaledLinear.name().to_owned()),
            ..Entries::default()
        };
        Self::from_defaults(entries, class)
    }

    /// The settings in Stable Diffusion 1.5's own `scheduler_config.json`: PNDM without Runge-Kutta steps, "leading" spacing with
    /// offset 1, and the alpha of timestep 0 after the last step.
    pub fn stable_diffusion_1_5() -> Self {
        let mut entries = Self::stable_diffusion(SchedulerClass::Pndm).entries;
        entries.skip_prk_steps = Some(true);
        entries.set_alpha_to_one = Some(false);
        entries.clip_sample = Some(false);
        entries.steps_offset = Some(1);
        Self::from_defaults(entries, SchedulerClass::Pndm)
    }

    fn from_defaults(entries: Entries, class: SchedulerClass) -> Self {
        // The entries of both callers are constants, and a test resolves them for every class.
        resolve(entries, class, Path::new("built-in scheduler")).expect("constant entries are supported by every class")
    }

    /// The same entries for another class, as diffusers' `OtherScheduler.from_config(scheduler.config)`: what the file does not give
    /// takes the other class's default.
    ///
    /// # Errors
    /// [`Error::Config`] when the other class does not support one of the entries.
    pub fn with_class(&self, class: SchedulerClass) -> Result<Self> {
        resolve(self.entries.clone(), class, &self.path)
    }

    /// The same settings for a network that predicts `prediction_type`.
    ///
    /// # Errors
    /// [`Error::Config`] when the class does not support it.
    pub fn with_prediction_type(&self, prediction_type: PredictionType) -> Result<Self> {
        let entries = Entries { prediction_type: Some(prediction_type.name().to_owned()), ..self.entries.clone() };
        resolve(entries, self.class, &self.path)
    }

    /// The scheduler's class.
    pub fn class(&self) -> SchedulerClass {
        self.class
    }

    /// Timesteps of training, 1000 in every Stable Diffusion model.
    pub fn num_train_timesteps(&self) -> usize {
        self.num_train_timesteps
    }

    /// What the network's output means.
    pub fn prediction_type(&self) -> PredictionType {
        self.prediction_type
    }

    /// How inference timesteps are spread.
    pub fn timestep_spacing(&self) -> TimestepSpacing {
        self.timestep_spacing
    }

    /// What is added to every timestep under [`TimestepSpacing::Leading`].
    pub fn steps_offset(&self) -> usize {
        self.steps_offset
    }
}

/// Fills in the defaults of `class` and refuses what it does not support.
fn resolve(entries: Entries, class: SchedulerClass, path: &Path) -> Result<SchedulerConfig> {
    use SchedulerClass::{Ddim, DdimInverse, Ddpm, EulerAncestralDiscrete, EulerDiscrete, Pndm};
    let euler = matches!(class, EulerDiscrete | EulerAncestralDiscrete);
    let clips = matches!(class, Ddim | DdimInverse | Ddpm);
    refuse_unsupported(&entries, class, path)?;

    let spacing = choice(&entries.timestep_spacing, "timestep_spacing", TimestepSpacing::ALL, TimestepSpacing::name, path)?;
    let beta_schedule = choice(&entries.beta_schedule, "beta_schedule", BetaSchedule::ALL, BetaSchedule::name, path)?;
    let variance = match class {
        Ddpm => choice(&entries.variance_type, "variance_type", VarianceType::ALL, VarianceType::name, path)?,
        _ => None,
    };
    let final_sigma = match class {
        EulerDiscrete => choice(&entries.final_sigmas_type, "final_sigmas_type", FinalSigma::ALL, FinalSigma::name, path)?,
        _ => None,
    };
    let clip_range = entries.clip_sample_range.unwrap_or(1.0);
    let config = SchedulerConfig {
        path: path.to_owned(),
        class,
        num_train_timesteps: entries.num_train_timesteps.unwrap_or(1000),
        beta_start: entries.beta_start.unwrap_or(0.0001),
        beta_end: entries.beta_end.unwrap_or(0.02),
        beta_schedule: beta_schedule.unwrap_or(BetaSchedule::Linear),
        trained_betas: entries.trained_betas.clone(),
        prediction_type: prediction_type(&entries, class, path)?,
        timestep_spacing: spacing.unwrap_or(if euler { TimestepSpacing::Linspace } else { TimestepSpacing::Leading }),
        steps_offset: entries.steps_offset.unwrap_or(0),
        rescale_betas_zero_snr: class != Pndm && entries.rescale_betas_zero_snr.unwrap_or(false),
        skip_prk_steps: entries.skip_prk_steps.unwrap_or(false),
        set_alpha_to_one: entries.set_alpha_to_one.unwrap_or(matches!(class, Ddim | DdimInverse)),
        clip_sample: (clips && entries.clip_sample.unwrap_or(true)).then_some(clip_range),
        variance_type: variance.unwrap_or(VarianceType::FixedSmall),
        final_sigma: final_sigma.unwrap_or(FinalSigma::Zero),
        entries,
    };
    check_numbers(&config)?;
    Ok(config)
}

fn prediction_type(entries: &Entries, class: SchedulerClass, path: &Path) -> Result<PredictionType> {
    use PredictionType::{Epsilon, Velocity};
    let supported: &[PredictionType] = match class {
        SchedulerClass::Pndm | SchedulerClass::EulerAncestralDiscrete => &[Epsilon, Velocity],
        _ => PredictionType::ALL,
    };
    let named = choice(&entries.prediction_type, "prediction_type", supported, PredictionType::name, path)?;
    Ok(named.unwrap_or(Epsilon))
}

/// Settings that the class has and that are not built here.
fn refuse_unsupported(entries: &Entries, class: SchedulerClass, path: &Path) -> Result<()> {
    use SchedulerClass::{Ddim, DdimInverse, Ddpm, EulerDiscrete};
    let thresholds = matches!(class, Ddim | Ddpm);
    let euler = class == EulerDiscrete;
    let flags = [
        (thresholds, "thresholding", entries.thresholding),
        (euler, "use_karras_sigmas", entries.use_karras_sigmas),
        (euler, "use_exponential_sigmas", entries.use_exponential_sigmas),
        (euler, "use_beta_sigmas", entries.use_beta_sigmas),
    ];
    for (applies, key, value) in flags {
        if applies && value == Some(true) {
            return Err(Error::config(path, key, ConfigCause::UnsupportedFlag));
        }
    }
    let words =
        [("interpolation_type", &entries.interpolation_type, "linear"), ("timestep_type", &entries.timestep_type, "discrete")];
    for (key, value, supported) in words {
        if let Some(value) = value.as_deref().filter(|value| euler && *value != supported) {
            let (found, supported) = (Some(value.to_owned()), supported.to_owned());
            return Err(Error::config(path, key, ConfigCause::Unsupported { found, supported }));
        }
    }
    if class == DdimInverse && entries.set_alpha_to_zero.is_some() {
        return Err(Error::config(path, "set_alpha_to_zero", ConfigCause::Deprecated { replacement: "set_alpha_to_one" }));
    }
    if class == DdimInverse && entries.timestep_spacing.as_deref() == Some("linspace") {
        let (found, supported) = (Some("linspace".to_owned()), "leading, trailing".to_owned());
        return Err(Error::config(path, "timestep_spacing", ConfigCause::Unsupported { found, supported }));
    }
    Ok(())
}

/// Numbers that would make empty, endless or undefined tables.
fn check_numbers(config: &SchedulerConfig) -> Result<()> {
    let refuse = |key: &str, cause: ConfigCause| Err(Error::config(&config.path, key, cause));
    let counted = "training timesteps";
    let n = config.num_train_timesteps;
    if !(1..=MAX_TRAIN_TIMESTEPS).contains(&n) {
        return refuse("num_train_timesteps", ConfigCause::OutOfRange { found: n, least: 1, most: MAX_TRAIN_TIMESTEPS });
    }
    if config.steps_offset > n {
        return refuse("steps_offset", ConfigCause::TooLarge { found: config.steps_offset, most: n, counted });
    }
    for (key, beta) in [("beta_start", config.beta_start), ("beta_end", config.beta_end)] {
        if !(beta > 0.0 && beta < 1.0) {
            return refuse(key, ConfigCause::NotAShare { found: beta });
        }
    }
    if let Some(betas) = &config.trained_betas {
        if betas.len() != n {
            return refuse("trained_betas", ConfigCause::Count { found: betas.len(), expected: n, counted });
        }
        if let Some(beta) = betas.iter().find(|beta| !(**beta > 0.0 && **beta < 1.0)) {
            return refuse("trained_betas", ConfigCause::NotAShare { found: *beta });
        }
    }
    if config.clip_sample.is_some_and(|range| !(range > 0.0 && range.is_finite())) {
        return refuse("clip_sample_range", ConfigCause::NotPositive);
    }
    Ok(())
}

/// The value that `text` names among those supported, `None` where the entry is missing.
fn choice<T: Copy>(
    text: &Option<String>,
    key: &str,
    supported: &[T],
    name: impl Fn(T) -> &'static str,
    path: &Path,
) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    let found = supported.iter().copied().find(|value| name(*value) == text);
    let all = || supported.iter().map(|value| name(*value)).collect::<Vec<_>>().join(", ");
    let unsupported = || ConfigCause::Unsupported { found: Some(text.clone()), supported: all() };
    found.map(Some).ok_or_else(|| Error::config(path, key, unsupported()))
}

fn names(classes: &[SchedulerClass]) -> String {
    classes.iter().map(|class| class.name()).collect::<Vec<_>>().join(", ")
}
