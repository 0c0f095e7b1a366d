//! The command line in the form of a configuration file; with `--config`, that file with what was typed put over it.

use std::path::{Path, PathBuf};

use features::fault::Fault;

use features::options::SetSettings;

use features::plan::Settings;
use features::set::{Finite, LoraFile};

use crate::args::ExtractArgs;

/// The command line in the form of a configuration file; with `--config`, that file with what was typed put over it.
///
/// # Errors
/// When the file is wrong, or an option was typed that belongs to a `[[set]]` of the file.
pub fn from_args(args: &ExtractArgs) -> Result<Settings, Fault> {
    let mut settings = match &args.config {
        Some(path) => {
            refuse_set_options(args, path)?;
            Settings::from_file(path)?
        }
        None => Settings::of_set(set_from_args(args)),
    };
    put_over(&mut settings.version, args.version.clone());
    put_over(&mut settings.model, args.model.model.clone());
    put_over(&mut settings.threads, args.model.threads);
    put_over(&mut settings.batch_size, args.batch_size);
    put_over(&mut settings.input.images, args.input_dir.clone());
    put_over(&mut settings.input.img_size, args.img_size);
    put_over(&mut settings.output.dir, args.output_dir.clone());
    put_over(&mut settings.output.split, args.split.clone());
    settings.input.nested |= args.nested_input_dir;
    settings.output.aggregate |= args.aggregate_output;
    settings.output.use_original_filename |= args.use_original_filename;
    settings.output.sample_name_first |= args.sample_name_first;
    settings.output.overwrite |= args.overwrite;
    for named in &args.controlnet_model {
        settings.controlnet_model.insert(named.name.clone(), named.value.clone());
    }
    for named in &args.control_image_dir {
        settings.control_image_dir.insert(named.name.clone(), PathBuf::from(&named.value));
    }
    settings.shard = args.shard;
    put_over(&mut settings.base, args.model.base.clone());
    put_over(&mut settings.revision, args.model.revision.clone());
    put_over(&mut settings.output.dtype, args.output_dtype);
    put_over(&mut settings.output.format, args.output_format);
    merged_model(args, &mut settings)?;
    Ok(settings)
}

/// `--offline-lora` alone takes the model's place; what was named as the model then is the base.
fn merged_model(args: &ExtractArgs, settings: &mut Settings) -> Result<(), Fault> {
    let (Some(merged), None) = (&args.offline_lora, &args.offline_lora_filename) else { return Ok(()) };
    if !merged.exists() {
        let advice =
            "alone it is a merged model, a diffusers folder or a checkpoint; for an adapter give --offline-lora-filename too";
        return Err(Fault::failure(format!("--offline-lora {}: does not exist; {advice}", merged.display())));
    }
    let no_text = || Fault::failure(format!("{}: the name is not valid Unicode", merged.display()));
    let named = settings.model.replace(merged.to_str().ok_or_else(no_text)?.to_owned());
    settings.base = settings.base.take().or(named);
    Ok(())
}

fn put_over<T>(place: &mut Option<T>, typed: Option<T>) {
    if typed.is_some() {
        *place = typed;
    }
}

/// The one set that the command line asks for.
fn set_from_args(args: &ExtractArgs) -> SetSettings {
    let mut set = args.set.set.clone();
    if let (Some(folder), Some(name)) = (&args.offline_lora, &args.offline_lora_filename) {
        set.lora.insert(0, LoraFile { file: folder.join(name), scale: Finite::ONE });
    }
    set
}

/// With `--config` the file's sets say what to extract; an option that would be silently out of force is refused.
fn refuse_set_options(args: &ExtractArgs, path: &Path) -> Result<(), Fault> {
    let mut typed = args.set.typed.clone();
    typed.extend(args.offline_lora_filename.as_ref().map(|_| "--offline-lora-filename".to_owned()));
    typed.extend(args.show_all_layers.then(|| "--show-all-layers".to_owned()));
    match typed.is_empty() {
        true => Ok(()),
        false => Err(Fault::usage(format!(
            "{} cannot be used together with --config; write it into the sets of {}",
            typed.join(", "),
            path.display()
        ))),
    }
}
