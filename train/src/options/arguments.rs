//! The command line and the configuration file, brought into one list of arguments that `clap` reads.
//!
//! What kohya's users type is not quite what `clap` takes: names come with dashes or underscores, a TOML file stands in for half of
//! them, and some belong to kohya only. So the list is taken apart by name here, every name is looked up, and what is left is put
//! together again as `--name=value`.

use super::Options;
use super::config_file::{self, EntryKind};
use super::foreign::{self, Arity, Treatment};
use clap::{ArgAction, Command, CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options, and what should be said about them.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The options.
    pub options: Options,
    /// Sentences about options that have no effect on the result.
    pub notices: Vec<String>,
    /// Sentences about options that were left out.
    pub warnings: Vec<String>,
    /// Names of the options that were given, with underscores.
    pub given: Vec<String>,
}

/// Why arguments were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// `--help` or `--version`: a text for standard output.
    #[error("{0}")]
    Shown(String),
    /// A sentence for standard error.
    #[error("{0}")]
    Wrong(String),
}

impl Options {
    /// The options that `arguments` ask for, each written as `--name=value`.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn from_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self, Rejected> {
        parse(&Options::command(), arguments.into_iter().map(str::to_owned)).map(|parsed| parsed.options)
    }
}

/// Reads the command line, of which `command` (that of [`Options`]) knows how it was called, and the configuration file that it names.
///
/// # Errors
/// [`Rejected`].
pub fn parse(command: &Command, arguments: impl IntoIterator<Item = String>) -> Result<Parsed, Rejected> {
    let known = Known::new();
    let typed = known.take_apart(arguments.into_iter())?;
    let mut notes = Notes::default();
    let mut ours = known.sort_out(typed.options, "the command line", &mut notes)?;
    if let Some(path) = ours.get("config_file").and_then(|values| values.last()).map(PathBuf::from) {
        let entries = config_file::read(&path).map_err(|error| Rejected::Wrong(format!("{error:#}")))?;
        let source = path.display().to_string();
        let from_file = known.sort_out(known.found_in(entries, &source)?, &source, &mut notes)?;
        // Alone first, so that a wrong value is reported as the file's.
        read_with_clap(command, &[], &from_file).map_err(|rejected| match rejected {
            Rejected::Wrong(message) => Rejected::Wrong(format!("{source}: {message}")),
            shown => shown,
        })?;
        for (name, values) in from_file {
            ours.entry(name).or_insert(values);
        }
    }
    let options = read_with_clap(command, &typed.words, &ours)?;
    Ok(Parsed { options, notices: notes.notices, warnings: notes.warnings, given: ours.into_keys().collect() })
}

#[derive(Default)]
struct Notes {
    notices: Vec<String>,
    warnings: Vec<String>,
}

/// An option as it was found, before its name is looked up in earnest.
struct Found {
    name: String,
    values: Vec<String>,
}

struct TakenApart {
    options: Vec<Found>,
    /// What is not an option or its value: `check`, `-q`, `--help`.
    words: Vec<String>,
}

/// The names there are.
struct Known {
    ours: BTreeMap<String, Arity>,
    /// Other spelling to name.
    aliases: BTreeMap<String, String>,
}

impl Known {
    fn new() -> Self {
        let (mut ours, mut aliases) = (BTreeMap::new(), BTreeMap::new());
        for argument in Options::command().get_arguments() {
            let Some(name) = argument.get_long() else { continue };
            let arity = match argument.get_action() {
                ArgAction::SetTrue => Arity::Switch,
                ArgAction::Append => Arity::Many,
                _ => Arity::One,
            };
            ours.insert(name.to_owned(), arity);
            for alias in argument.get_all_aliases().unwrap_or_default() {
                aliases.insert(alias.to_owned(), name.to_owned());
            }
        }
        Self { ours, aliases }
    }

    /// The name that `written` stands for: with underscores, aliases resolved.
    fn canonical(&self, written: &str) -> String {
        let name = written.replace('-', "_");
        self.aliases.get(&name).cloned().unwrap_or(name)
    }

    fn arity(&self, name: &str) -> Option<Arity> {
        self.ours.get(name).copied().or_else(|| foreign::find(name).map(|foreign| foreign.arity))
    }

    fn take_apart(&self, arguments: impl Iterator<Item = String>) -> Result<TakenApart, Rejected> {
        let mut arguments = arguments.peekable();
        let mut taken = TakenApart { options: vec![], words: vec![] };
        let mut unknown = Vec::new();
        while let Some(argument) = arguments.next() {
            let Some(long) = argument.strip_prefix("--").filter(|long| !long.is_empty()) else {
                taken.words.push(argument);
                continue;
            };
            let (written, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            if ["help", "version"].contains(&written) {
                taken.words.push(argument);
                continue;
            }
            let name = self.canonical(written);
            // What follows an unknown option is taken for its values, so that a mistake behind it is found as well.
            let arity = self.arity(&name).unwrap_or_else(|| {
                unknown.push(self.unknown(&name, "the command line"));
                Arity::Many
            });
            let mut values: Vec<String> = attached.into_iter().collect();
            let most = if arity == Arity::One { 1 } else { usize::MAX };
            // A switch takes no value, so what follows it is not its own.
            while arity != Arity::Switch && values.len() < most {
                let Some(value) = arguments.next_if(|next| !next.starts_with("--")) else { break };
                values.push(value);
            }
            taken.options.push(Found { name, values });
        }
        together(unknown).map_or(Ok(taken), Err)
    }

    fn found_in(&self, entries: Vec<config_file::Entry>, source: &str) -> Result<Vec<Found>, Rejected> {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for entry in entries {
            let name = self.canonical(&entry.name);
            let Some(arity) = self.arity(&name) else {
                unknown.push(self.unknown(&name, source));
                continue;
            };
            let mut values = entry.values;
            match (entry.kind, arity) {
                // An empty text and an empty list are how interfaces write "not set".
                (EntryKind::Single, _) if values == [""] => continue,
                (EntryKind::List, _) if values.is_empty() => continue,
                (EntryKind::Boolean(false), _) => continue,
                (EntryKind::Boolean(true), Arity::Switch) => {}
                (EntryKind::Boolean(true), _) => values = vec!["true".into()],
                (EntryKind::Single, Arity::Switch) => match values[0].as_str() {
                    "0" => continue,
                    "1" => values.clear(),
                    other => return Err(Rejected::Wrong(format!("{source}: `{name}` is true or false, not `{other}`"))),
                },
                (EntryKind::List, Arity::One) => values = vec![values.join(",")],
                (EntryKind::List, Arity::Switch) => {
                    return Err(Rejected::Wrong(format!("{source}: `{name}` is true or false, not a list")));
                }
                _ => {}
            }
            found.push(Found { name, values });
        }
        together(unknown).map_or(Ok(found), Err)
    }

    /// Parts our options from kohya's; the last of several wins, as in Python's argparse.
    fn sort_out(&self, found: Vec<Found>, source: &str, notes: &mut Notes) -> Result<BTreeMap<String, Vec<String>>, Rejected> {
        let (mut ours, mut refused) = (BTreeMap::new(), Vec::new());
        for Found { name, values } in found {
            let Some(foreign) = foreign::find(&name) else {
                ours.insert(name, values);
                continue;
            };
            // Asking for nothing is not asking.
            if matches!(values.as_slice(), [value] if ["0", "0.0", "", "no", "none", "false"].contains(&value.to_lowercase().as_str()))
            {
                continue;
            }
            match foreign.treatment {
                Treatment::Needless(why) => notes.notices.push(format!("{source}: {name} has no effect here: {why}")),
                Treatment::LeftOut(why) => notes.warnings.push(format!("{source}: {name} is not supported: {why}")),
                Treatment::DoneAs(done, _) if values.iter().all(|value| value.eq_ignore_ascii_case(done)) => {}
                Treatment::DoneAs(_, why) => notes.warnings.push(format!("{source}: {name} is not supported: {why}")),
                Treatment::Refused(why) => refused.push(format!("{source}: {name} is not supported: {why}")),
            }
        }
        if refused.is_empty() { Ok(ours) } else { Err(Rejected::Wrong(refused.join("\n"))) }
    }

    fn unknown(&self, name: &str, source: &str) -> String {
        let names = self.ours.keys().map(String::as_str).chain(foreign::all().iter().map(|foreign| foreign.name));
        let nearest = driftless::Error::unknown("option", name, names);
        format!("{source}: {nearest}")
    }
}

/// Several mistakes as one rejection; `None` without any.
fn together(mistakes: Vec<String>) -> Option<Rejected> {
    (!mistakes.is_empty()).then(|| Rejected::Wrong(mistakes.join("\n")))
}

fn read_with_clap(command: &Command, words: &[String], options: &BTreeMap<String, Vec<String>>) -> Result<Options, Rejected> {
    let mut line = vec![command.get_name().to_owned()];
    line.extend(words.iter().cloned());
    for (name, values) in options {
        if values.is_empty() {
            line.push(format!("--{name}"));
        }
        line.extend(values.iter().map(|value| format!("--{name}={value}")));
    }
    let matches = command.clone().try_get_matches_from(line);
    matches.and_then(|matches| Options::from_arg_matches(&matches)).map_err(|error| match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
            Rejected::Shown(error.render().to_string())
        }
        _ => {
            let text = error.render().to_string();
            Rejected::Wrong(driftless_cli::failure::in_plain_words(text.trim_start_matches("error: ").trim_end()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::values::{Resolution, StepsOrShare};
    use super::super::{Action, ObjectiveKind, Precision};
    use super::*;

    fn parse_words(line: &str) -> Result<Parsed, Rejected> {
        parse(&Options::command(), line.split_whitespace().map(str::to_owned))
    }

    fn wrong(line: &str) -> String {
        match parse_words(line) {
            Err(Rejected::Wrong(message)) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn clap_agrees_with_itself() {
        Options::command().debug_assert();
    }

    #[test]
    fn dashes_and_underscores_are_the_same() {
        let parsed = parse_words(
            "check --train-data-dir a --output_dir=b --cache-latents --network_args conv_dim=4 conv_alpha=1 --seed 7",
        );
        let options = parsed.unwrap().options;
        assert_eq!(options.action, Some(Action::Check));
        assert_eq!(options.data.train_data_dir, Some("a".into()));
        assert_eq!(options.output.output_dir, PathBuf::from("b"));
        assert!(options.data.cache_latents);
        assert_eq!(options.network.network_args.len(), 2);
        assert_eq!(options.run.seed, Some(7));
    }

    #[test]
    fn a_negative_number_is_a_value() {
        assert_eq!(parse_words("--noise_offset -0.05").unwrap().options.objective.noise_offset, Some(-0.05));
    }

    #[test]
    fn a_switch_takes_no_value() {
        let parsed = parse_words("--cache_latents check").unwrap();
        assert_eq!(parsed.options.action, Some(Action::Check));
    }

    #[test]
    fn an_unknown_option_names_the_nearest() {
        let message = wrong("--learning_rat 1");
        assert!(message.contains("learning_rat") && message.contains("did you mean `learning_rate`"), "{message}");
    }

    #[test]
    fn options_of_kohya_are_named() {
        let parsed = parse_words("--xformers --weighted_captions --network_dropout 0 --max_data_loader_n_workers 2").unwrap();
        assert_eq!(parsed.warnings.len(), 1, "{:?}", parsed.warnings);
        assert!(parsed.warnings[0].contains("weighted_captions"));
        assert_eq!(parsed.notices.len(), 2, "{:?}", parsed.notices);
        assert!(wrong("--masked_loss").contains("every pixel"));
        assert!(parse_words("--log_with tensorboard").unwrap().warnings.is_empty(), "that is what is done");
        assert!(parse_words("--log_with all").unwrap().warnings[0].contains("log_with"));
    }

    #[test]
    fn all_mistakes_of_a_kind_are_told_at_once() {
        let message = wrong("--masked_loss --in_json a --learning_rate 1");
        assert!(message.contains("masked_loss") && message.contains("in_json"), "{message}");
        let message = wrong("--learning_rat 1 --network_dmi 4 --seed 1");
        assert!(message.contains("learning_rat") && message.contains("network_dmi"), "{message}");
        for (line, expected) in
            [("--seed x", "expected a whole number"), ("--unet_lr x", "a number"), ("--network_dim=", "whole number")]
        {
            let message = wrong(line);
            assert!(
                message.contains(expected) && !message.contains("digit") && !message.contains("literal"),
                "{line}: {message}"
            );
        }
    }

    #[test]
    fn no_option_is_both_ours_and_foreign() {
        let known = Known::new();
        let mut names: Vec<_> = foreign::all().iter().map(|foreign| foreign.name).collect();
        for name in &names {
            assert!(!known.ours.contains_key(*name) && !known.aliases.contains_key(*name), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), foreign::all().len(), "an option is listed twice");
    }

    /// Every option of sd-scripts' `train_network.py` is either ours or listed as foreign.
    #[test]
    fn every_option_of_kohya_is_known() {
        let known = Known::new();
        let names = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/kohya_options.txt"));
        let missing: Vec<_> = names
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .filter(|name| known.arity(&known.canonical(name)).is_none())
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    /// A file in the form that the kohya_ss interface writes: flat, with numbers for switches and empty texts and lists.
    #[test]
    fn a_toml_file_of_the_interface() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/kohya_ss.toml");
        let parsed = parse_words(&format!("--config_file {path} --output_name other --network_dim=8")).unwrap();
        let options = &parsed.options;
        assert_eq!(options.output.output_name.as_deref(), Some("other"));
        assert_eq!(options.network.network_dim, 8);
        assert_eq!(options.network.network_alpha, 32.0);
        assert_eq!(options.data.resolution, Resolution { width: 512, height: 650 });
        assert_eq!(options.optimization.unet_lr, Some(1e-4));
        assert_eq!(options.optimization.text_encoder_lr, [5e-5]);
        assert_eq!(options.optimization.lr_warmup_steps, StepsOrShare::Steps(90));
        assert_eq!(options.optimization.optimizer_type, "AdamW8bit");
        assert_eq!(options.model.mixed_precision, Precision::Bf16);
        assert_eq!(options.model.max_token_length, Some(75));
        assert!(options.data.cache_latents && options.data.bucket_no_upscale);
        assert!(parsed.warnings.iter().any(|warning| warning.contains("wandb_run_name")), "{:?}", parsed.warnings);
        assert!(!parsed.warnings.iter().any(|warning| warning.contains("network_dropout")), "{:?}", parsed.warnings);
    }

    #[test]
    fn the_recipes_in_configs_are_valid() {
        let recipe = |name: &str| {
            let path = format!("{}/../configs/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let parsed = parse_words(&format!("--config_file {path}")).unwrap();
            assert!(parsed.warnings.is_empty() && parsed.notices.is_empty(), "{:?} {:?}", parsed.warnings, parsed.notices);
            parsed.options
        };
        let paper = recipe("paper-lora");
        assert_eq!((paper.network.network_dim, paper.network.network_alpha), (64, 32.0));
        assert_eq!((paper.optimization.unet_lr, paper.optimization.text_encoder_lr.as_slice()), (Some(1e-4), [5e-5].as_slice()));
        assert_eq!((paper.captions.caption_extension.as_str(), paper.optimization.max_train_epochs), (".txt", Some(100)));
        assert!(recipe("quickstart").data.cache_latents);
        let clean = recipe("cleandift");
        assert_eq!(clean.objective.objective, ObjectiveKind::Cleandift);
        assert!(clean.network.network_train_unet_only && clean.optimization.max_grad_norm == 0.0);
    }

    #[test]
    fn mistakes_in_a_file_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        for (text, expected) in [
            ("learning_rte = 1", "learning_rate"),
            ("[a]\nlearning_rate = \"fast\"", "fast"),
            ("cache_latents = \"yes\"", "true or false"),
            ("seed = ", "TOML"),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = wrong(&format!("--config_file {}", path.display()));
            assert!(message.contains("run.toml") && message.contains(expected), "{text}: {message}");
        }
        assert!(wrong("--config_file /nowhere/run.toml").contains("/nowhere/run.toml"));
    }
}
