//! Options that say which model computes, where and how: the same for extracting from images and while an image is generated.

use candle_core::DType;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use driftless_cli::options::{DeviceChoice, Precision};
use features::fault::{Fault, FaultCause, both};
use features::options::{RUN_OPTIONS, RunOption, Settings};

use super::{from_name, rows};

/// Those of a run's options that a generation has, too.
const SHARED: [&str; 6] = ["model", "base", "revision", "dtype", "device", "threads"];

/// Options of the model.
#[derive(Debug, Default)]
pub struct ModelArgs {
    /// What was typed.
    pub settings: Settings,
}

fn shared() -> impl Iterator<Item = &'static RunOption> {
    RUN_OPTIONS.iter().filter(|option| SHARED.contains(&option.flag.name))
}

impl Args for ModelArgs {
    fn augment_args(command: Command) -> Command {
        rows::augment(command, shared())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ModelArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (settings, _) = rows::read(matches, shared())?;
        Hardware::typed(&settings)?;
        Ok(Self { settings })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Where to compute and in which type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hardware {
    /// Where.
    pub device: DeviceChoice,
    /// In which type; `None` for the device's own.
    pub dtype: Option<DType>,
}

impl Hardware {
    /// By the names that settings have for them.
    ///
    /// # Errors
    /// For a name that neither has.
    pub fn of(settings: &Settings) -> Result<Self, Fault> {
        let dtype = match &settings.dtype {
            Some(name) => {
                from_name::<Precision>(name).map(Some).map_err(|error| Fault::failure(FaultCause::above(error)).of("dtype: "))
            }
            None => Ok(None),
        };
        let device = match &settings.device {
            Some(name) => name.parse().map_err(|error: driftless::Error| Fault::failure(error).of(&format!("device `{name}`: "))),
            None => Ok(DeviceChoice::default()),
        };
        let (device, dtype) = both(device, dtype)?;
        Ok(Self { device, dtype: dtype.map(Precision::dtype) })
    }

    /// The same of what was typed, where a wrong name is wrong usage.
    pub(super) fn typed(settings: &Settings) -> Result<Self, clap::Error> {
        Self::of(settings).map_err(|fault| rows::wrong_usage(fault.of("--")))
    }
}
