//! Whether a resumed run is still the run that wrote the state: the recorded configurations are compared entry by
//! entry, and each option's row says what a difference means.

use super::{Identity, Options, Record};
use std::collections::{BTreeMap, BTreeSet};

/// The options of a run that decide on its result, as states record them: entry to value.
pub type Configuration = BTreeMap<String, String>;

/// Entries that belong to no option and may differ in a resumed run: the version of this program, and the number that follows from the
/// seed.
const NO_OPTIONS_AND_MAY_CHANGE: [&str; 2] = ["ss_sd_scripts_commit_hash", "ss_session_id"];

/// Options that are recorded under their own names: those that decide on the result, unless they have their defaults. States of earlier
/// versions, which lack newer options, stay valid that way.
pub fn recorded_by_name(options: &Options) -> Configuration {
    let defaults = by_name(&Options::defaults());
    by_name(options).into_iter().filter(|(name, value)| defaults.get(name) != Some(value)).collect()
}

fn by_name(options: &Options) -> Configuration {
    let compared = options.values().filter(|(row, _)| row.record == Record::Own && row.identity != Identity::Irrelevant);
    compared.map(|(row, value)| (row.name.to_owned(), value.python())).collect()
}

/// An entry that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    entry: String,
    then: Option<String>,
    now: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Option<String>| match value.as_deref() {
            None => "nothing".to_owned(),
            // Digests, and descriptions of whole data sets.
            Some(value) if value.len() > 80 => "something else".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let name = self.entry.strip_prefix("ss_").unwrap_or(&self.entry);
        write!(formatter, "{name} was {} and is now {}", shown(&self.then), shown(&self.now))
    }
}

/// The state is of another run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state is of another configuration: {}; resume with the old settings, or start anew", list(.differences))]
pub struct OtherConfiguration {
    /// All that differs and must not.
    pub differences: Vec<Difference>,
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What has changed and may.
///
/// # Errors
/// When something has changed that may not.
pub fn compare(then: &Configuration, now: &Configuration) -> Result<Vec<Difference>, OtherConfiguration> {
    let defaults = by_name(&Options::defaults());
    let value = |of: &Configuration, entry: &str| of.get(entry).or_else(|| defaults.get(entry)).cloned();
    let (mut refused, mut allowed) = (Vec::new(), Vec::new());
    for entry in then.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        let difference = Difference { entry: entry.clone(), then: value(then, entry), now: value(now, entry) };
        if difference.then == difference.now {
            continue;
        }
        match identity(entry) {
            Identity::Fixed => refused.push(difference),
            Identity::MayChange => allowed.push(difference),
            Identity::Irrelevant => {}
        }
    }
    if refused.is_empty() { Ok(allowed) } else { Err(OtherConfiguration { differences: refused }) }
}

/// What a difference in an entry means. An entry that belongs to no option describes the images or the model, or comes from a later
/// version of this program: to resume would be to guess.
fn identity(entry: &str) -> Identity {
    if NO_OPTIONS_AND_MAY_CHANGE.contains(&entry) {
        return Identity::MayChange;
    }
    super::rows().find(|row| row.is_recorded_in(entry)).map_or(Identity::Fixed, |row| row.identity)
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;
    use clap::{Args, CommandFactory};
    use driftless_cli::Logging;

    fn configuration(entries: &[(&str, &str)]) -> Configuration {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn shown(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn another_configuration_is_refused_and_a_longer_run_is_not() {
        let then = configuration(&[("ss_network_dim", "4"), ("ss_num_epochs", "1")]);
        let longer = configuration(&[("ss_network_dim", "4"), ("ss_num_epochs", "2")]);
        assert_eq!(shown(&compare(&then, &longer).unwrap()), ["num_epochs was `1` and is now `2`"]);
        assert!(compare(&then, &then).unwrap().is_empty());
        let wider = configuration(&[("ss_network_dim", "8"), ("ss_num_epochs", "1")]);
        let message = compare(&then, &wider).unwrap_err().to_string();
        assert!(message.contains("network_dim was `4` and is now `8`"), "{message}");
        let without = configuration(&[("ss_num_epochs", "1")]);
        assert!(compare(&then, &without).is_err());
        let other = configuration(&[("ss_network_dim", "8"), ("ss_num_epochs", "1"), ("data", "1")]);
        assert_eq!(compare(&then, &other).unwrap_err().differences.len(), 2, "all differences are told at once");
    }

    #[test]
    fn every_option_has_a_row() {
        let shared = Logging::augment_args(clap::Command::new("messages"));
        let is_shared = |name: &str| shared.get_arguments().any(|argument| argument.get_long() == Some(name));
        let command = Options::command();
        let options = command.get_arguments().filter_map(clap::Arg::get_long).filter(|name| !is_shared(name));
        let options: Vec<&str> = options.collect();
        let names: Vec<&str> = rows().map(|row| row.name).collect();
        assert_eq!(names, options);
        let defaults = Options::defaults();
        let valued: Vec<&str> = defaults.values().map(|(row, _)| row.name).collect();
        assert_eq!(names, valued);
    }

    #[test]
    fn options_that_share_an_entry_agree() {
        for row in rows() {
            let (Record::By(entry), Identity::Fixed | Identity::MayChange) = (row.record, row.identity) else { continue };
            assert_eq!(identity(entry), row.identity, "{}", row.name);
        }
    }

    #[test]
    fn what_decides_on_the_learning_rate_is_said() {
        let recorded = |arguments: &[&str]| recorded_by_name(&Options::of(arguments));
        assert!(recorded(&[]).is_empty(), "defaults are not recorded");
        for (argument, expected) in [
            ("--lr_decay_steps=10", "lr_decay_steps was `0` and is now `10`"),
            ("--lr_scheduler_num_cycles=3", "lr_scheduler_num_cycles was `1` and is now `3`"),
            ("--lr_scheduler_power=2", "lr_scheduler_power was `1.0` and is now `2.0`"),
            ("--lr_scheduler_timescale=5", "lr_scheduler_timescale was `None` and is now `5`"),
            ("--lr_scheduler_min_lr_ratio=0.5", "lr_scheduler_min_lr_ratio was `None` and is now `0.5`"),
        ] {
            assert_eq!(shown(&compare(&recorded(&[]), &recorded(&[argument])).unwrap()), [expected]);
            assert_eq!(compare(&recorded(&[argument]), &recorded(&[])).unwrap().len(), 1, "{argument}");
            assert!(compare(&recorded(&[argument]), &recorded(&[argument])).unwrap().is_empty(), "{argument}");
        }
        assert!(recorded(&["--threads=1", "--save_every_n_steps=2"]).is_empty());
    }
}
