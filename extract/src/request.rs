//! The command line in the form of a configuration file; with `--config`, that file with what was typed put over it.

use std::path::{Path, PathBuf};

use features::plan::{ControlSetting, ControlTable, Fault, LayerSetting, LoraSetting, LoraTable, SetSettings, Settings};

use features::set::{Finite, LoraFile};

use crate::args::{ExtractArgs, NamedNumber};

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
        None => {
            refuse_strangers(args)?;
            Settings { sets: vec![set_from_args(args)], ..Settings::default() }
        }
    };
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

fn set_from_args(args: &ExtractArgs) -> SetSettings {
    let mut lora: Vec<LoraSetting> = args.model.lora.iter().map(lora_setting).collect();
    if let (Some(folder), Some(name)) = (&args.offline_lora, &args.offline_lora_filename) {
        lora.insert(0, lora_setting(&LoraFile { file: folder.join(name), scale: Finite::ONE }));
    }
    SetSettings {
        name: None,
        prompt: args.prompt.clone(),
        prompt_file: args.prompt_file.clone(),
        caption_dir: args.caption_dir.clone(),
        prompt_csv: args.prompt_csv.clone(),
        t: args.t.map(|t| t as usize),
        denoising_from: args.denoising_from.map(|from| from as usize),
        use_ddim_inversion: args.use_ddim_inversion,
        seed: args.seed,
        layer: args.layer.clone().map(LayerSetting::File),
        attention: args.attention.iter().map(ToString::to_string).collect(),
        feature_resize: args.feature_resize,
        model: None,
        write: None,
        fuse: Vec::new(),
        fuse_mode: None,
        control: args.control.iter().map(|kind| control_setting(kind, args)).collect(),
        lora,
    }
}

/// A kind with what other options say of it; the last of equal options wins.
fn control_setting(kind: &str, args: &ExtractArgs) -> ControlSetting {
    let of = |named: &[NamedNumber]| named.iter().rfind(|named| named.name == kind).map(|named| named.value);
    let (scale, start, end) = (of(&args.control_scale), of(&args.control_start), of(&args.control_end));
    ControlSetting::Table(ControlTable { kind: kind.to_owned(), scale, start, end })
}

fn lora_setting(lora: &LoraFile) -> LoraSetting {
    LoraSetting::Table(LoraTable { file: lora.file.clone(), scale: Some(lora.scale.get()) })
}

/// A strength or range of a kind that `--control` does not name would be silently out of force.
fn refuse_strangers(args: &ExtractArgs) -> Result<(), Fault> {
    let mut numbers = args.control_scale.iter().chain(&args.control_start).chain(&args.control_end);
    match numbers.find(|named| !args.control.contains(&named.name)) {
        Some(NamedNumber { name, .. }) => {
            Err(Fault::usage(format!("`{name}` has a strength or range, but --control does not name it")))
        }
        None => Ok(()),
    }
}

/// With `--config` the file's sets say what to extract; an option that would be silently out of force is refused.
fn refuse_set_options(args: &ExtractArgs, path: &Path) -> Result<(), Fault> {
    let typed = [
        ("--prompt", args.prompt.is_some()),
        ("--prompt-file", args.prompt_file.is_some()),
        ("--caption-dir", args.caption_dir.is_some()),
        ("--t", args.t.is_some()),
        ("--denoising-from", args.denoising_from.is_some()),
        ("--use-ddim-inversion", args.use_ddim_inversion),
        ("--layer", args.layer.is_some()),
        ("--attention", !args.attention.is_empty()),
        ("--feature-resize", args.feature_resize.is_some()),
        ("--prompt-csv", args.prompt_csv.is_some()),
        ("--control", !args.control.is_empty()),
        ("--control-scale", !args.control_scale.is_empty()),
        ("--control-start", !args.control_start.is_empty()),
        ("--control-end", !args.control_end.is_empty()),
        ("--lora", !args.model.lora.is_empty()),
        ("--offline-lora-filename", args.offline_lora_filename.is_some()),
        ("--seed", args.seed.is_some()),
        ("--show-all-layers", args.show_all_layers),
    ];
    let typed: Vec<&str> = typed.iter().filter(|(_, typed)| *typed).map(|(name, _)| *name).collect();
    match typed.is_empty() {
        true => Ok(()),
        false => Err(Fault::usage(format!(
            "{} cannot be used together with --config; write it into the sets of {}",
            typed.join(", "),
            path.display()
        ))),
    }
}
