//! The command line in the form of a configuration file; with `--config`, that file, overridden by the command line.

use std::path::{Path, PathBuf};

use features::fault::{Fault, FaultCause, InputFault};

use features::options::SetSettings;

use features::plan::Settings;
use features::set::{Finite, LoraFile};

use crate::args::{ExtractArgs, RunArgs};

/// The command line in the form of a configuration file; with `--config`, that file, overridden by the command line.
///
/// # Errors
/// When the file is wrong, or an option was typed that belongs to a `[[set]]` of the file.
pub fn from_args(args: &ExtractArgs) -> Result<Settings, Fault> {
    let mut settings = match &args.run.settings.command.config {
        Some(path) => {
            refuse_set_options(args, path)?;
            Settings::from_file(path)?
        }
        None => Settings::of_set(set_from_args(args)),
    };
    args.run.put_over(&mut settings)?;
    merged_model(&mut settings)?;
    Ok(settings)
}

/// The configuration file that was typed, or an empty request without one, with what else was typed put over it.
///
/// # Errors
/// When the file is wrong.
pub fn from_file_and(run: &RunArgs) -> Result<Settings, Fault> {
    let mut settings = match &run.settings.command.config {
        Some(path) => Settings::from_file(path)?,
        None => Settings::default(),
    };
    run.put_over(&mut settings)?;
    Ok(settings)
}

/// Options that do not go together.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("--offline-lora-filename is the name of a file in --offline-lora DIR, which is missing")]
    NoFolder,
    #[error(
        "--offline-lora {}: does not exist; alone it is a merged model, a diffusers folder or a checkpoint; for an adapter give \
         --offline-lora-filename too",
        path.display()
    )]
    NoMergedModel { path: PathBuf },
    #[error("{options} cannot be used together with --config; write it into the sets of {}", config.display())]
    BesideConfig { options: String, config: PathBuf },
}

/// `--offline-lora` alone takes the model's place; what was named as the model then is the base.
fn merged_model(settings: &mut Settings) -> Result<(), Fault> {
    let merged = match (&settings.command.offline_lora, &settings.command.offline_lora_filename) {
        (Some(merged), None) => merged,
        (None, Some(_)) => {
            return Err(Fault::usage(FaultCause::above(Refused::NoFolder)));
        }
        (Some(_), Some(_)) | (None, None) => return Ok(()),
    };
    if !merged.exists() {
        return Err(Fault::failure(FaultCause::above(Refused::NoMergedModel { path: merged.clone() })));
    }
    let no_text = || Fault::of_file(merged, InputFault::NameNotUnicode);
    let named = settings.model.replace(merged.to_str().ok_or_else(no_text)?.to_owned());
    settings.base = settings.base.take().or(named);
    Ok(())
}

/// The one set that the command line asks for.
fn set_from_args(args: &ExtractArgs) -> SetSettings {
    let mut set = args.set.set.clone();
    let command = &args.run.settings.command;
    if let (Some(folder), Some(name)) = (&command.offline_lora, &command.offline_lora_filename) {
        set.lora.insert(0, LoraFile { file: folder.join(name), scale: Finite::ONE });
    }
    set
}

/// With `--config` the file's sets say what to extract; an option that would have no effect is refused.
fn refuse_set_options(args: &ExtractArgs, path: &Path) -> Result<(), Fault> {
    let mut typed = args.set.typed.clone();
    typed.extend(args.run.settings.command.offline_lora_filename.as_ref().map(|_| "--offline-lora-filename".to_owned()));
    typed.extend(args.run.settings.command.show_all_layers.then(|| "--show-all-layers".to_owned()));
    match typed.is_empty() {
        true => Ok(()),
        false => {
            let refused = Refused::BesideConfig { options: typed.join(", "), config: path.to_owned() };
            Err(Fault::usage(FaultCause::above(refused)))
        }
    }
}
