//! Whether a run may write into a folder, and the manifest as it is then. Runs of the same settings may be at it at once, as shards are: who
//! changes the manifest holds a lock.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use driftless::formats::{AtomicFile, remove_stale, unfinished_in};
use serde_json::Value;

use super::difference::Differences;
use super::{ImageRecord, LOCK, MANIFEST, Manifest, Options};
use crate::fault::{Fault, ManifestFault};
use crate::stores::{OutputFormat, OutputRule};
use crate::{Error, Result};

/// A run at its folder's door.
pub struct Entry<'a> {
    /// Where features go.
    pub output: &'a OutputRule,
    /// Whether files of other settings give way.
    pub overwrite: bool,
    /// Whether an image, by its name, has any of the files that the run writes.
    pub is_made: &'a dyn Fn(&str) -> bool,
    /// The files that the run writes.
    pub files: &'a dyn Fn() -> Vec<PathBuf>,
}

/// A folder that a run writes into. While it lives, nobody replaces the folder's settings.
pub struct Claim {
    /// A temporary file in the folder, locked while its process lives, which is how others see that there is one.
    _alive: AtomicFile,
    /// The settings of each set's files.
    pub manifest: Manifest,
}

impl Entry<'_> {
    /// Fails where [`Self::claim`] would, and changes nothing. Answers what the user should know of what is there.
    ///
    /// # Errors
    /// When files of other settings stand there.
    pub fn check(&self, now: &Manifest) -> Result<Vec<String>, Fault> {
        let (there, differences) = self.compare(now)?;
        let rounding = differences.rounding.iter().map(|line| format!("{line}; features agree up to rounding"));
        let program = there.filter(|there| there.program != now.program);
        let program = program.map(|there| format!("{}: {} began it, this is {}", self.place(), there.program, now.program));
        Ok(rounding.chain(program).collect())
    }

    /// Takes the folder: writes the manifest, and with `overwrite` removes the files of other settings first.
    ///
    /// # Errors
    /// When files of other settings stand there, or the manifest cannot be written.
    pub fn claim(&self, now: Manifest) -> Result<Claim> {
        let folder = &self.output.dir;
        std::fs::create_dir_all(folder).map_err(|error| Fault::of_file(folder, error).of("--output-dir "))?;
        let _lock = lock(folder)?;
        let (there, differences) = self.compare(&now)?;
        let manifest = match there {
            Some(there) => {
                if differences.is_other_run() {
                    self.refuse_company()?;
                    remove(&there.files_of(folder, &differences))?;
                }
                let merged = there.clone().merged(now, &differences, self.overwrite);
                if merged != there {
                    merged.write(folder)?;
                }
                merged
            }
            None => {
                if self.overwrite {
                    self.refuse_company()?;
                    remove(&(self.files)())?;
                }
                now.write(folder)?;
                now
            }
        };
        Ok(Claim { _alive: AtomicFile::create(folder.join(MANIFEST))?, manifest })
    }

    fn place(&self) -> String {
        self.output.dir.join(MANIFEST).display().to_string()
    }

    /// What is there, if it can be gone on with or has to give way.
    fn compare(&self, now: &Manifest) -> Result<(Option<Manifest>, Differences), Fault> {
        let folder = &self.output.dir;
        match Manifest::read(folder) {
            Ok(Some(there)) => {
                let differences = Differences::between(&there, now, self.is_made);
                let would_mix = || there.any_file(folder) || !unfinished_in(folder).is_empty();
                if differences.is_other_run() && !self.overwrite && would_mix() {
                    let differences = differences.lines();
                    return Err(Fault::of_file(folder, ManifestFault::OtherSettings { differences }));
                }
                Ok((Some(there), differences))
            }
            Ok(None) if !self.overwrite => match (self.files)().iter().find(|file| file.is_file()) {
                Some(file) => Err(Fault::of_file(file, ManifestFault::NoManifest)),
                None => Ok((None, Differences::default())),
            },
            Ok(None) => Ok((None, Differences::default())),
            Err(_) if self.overwrite => Ok((None, Differences::default())),
            Err(problem) => Err(Fault::of_file(folder.join(MANIFEST), ManifestFault::from(problem))),
        }
    }

    /// Another run that is at work would go on writing files of the settings that give way.
    fn refuse_company(&self) -> Result<(), Fault> {
        let folder = &self.output.dir;
        remove_stale([folder.as_path()]);
        match unfinished_in(folder).first() {
            None => Ok(()),
            Some(sign) => Err(Fault::of_file(folder, ManifestFault::Company { sign: sign.clone() })),
        }
    }
}

/// Held while the manifest is read and written. Where the file system has no locks, shards that begin in the same moment are on their own.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(driftless::Error::io(&path))?;
    let _ = file.lock();
    Ok(file)
}

fn remove(files: &[PathBuf]) -> Result<()> {
    for file in files {
        match std::fs::remove_file(file) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            // A folder in a file's place is no feature; writing there says so.
            Err(_) if file.is_dir() => {}
            Err(error) => return Err(Error::Model(driftless::Error::io(file)(error))),
        }
    }
    Ok(())
}

impl Manifest {
    /// How the files of this manifest are laid out.
    fn rule(&self, folder: &Path) -> OutputRule {
        let is = |name: &str| self.run.get(name) == Some(&Value::Bool(true));
        let format = self.run.get("output.format").and_then(Value::as_str).and_then(|name| name.parse().ok());
        OutputRule {
            dir: folder.to_owned(),
            aggregate: is("output.aggregate"),
            sample_name_first: is("output.sample_name_first"),
            dtype: candle_core::DType::F16,
            format: format.unwrap_or(OutputFormat::Npy),
        }
    }

    fn files_of_set(&self, rule: &OutputRule, name: &str, set: &Options) -> impl Iterator<Item = PathBuf> {
        let layers = layers(set);
        let set = (!name.is_empty()).then_some(name);
        self.images.iter().flat_map(move |image| rule.files_named(set, &image.name, &layers))
    }

    /// The files of what differs.
    fn files_of(&self, folder: &Path, differences: &Differences) -> Vec<PathBuf> {
        let rule = self.rule(folder);
        let everything = !differences.run.is_empty() || !differences.images.is_empty();
        let sets = self.sets.iter().filter(|(name, _)| everything || differences.sets.contains_key(*name));
        sets.flat_map(|(name, set)| self.files_of_set(&rule, name, set)).collect()
    }

    fn any_file(&self, folder: &Path) -> bool {
        let rule = self.rule(folder);
        self.sets.iter().any(|(name, set)| self.files_of_set(&rule, name, set).any(|file| file.is_file()))
    }

    /// This manifest going on as `now`, in whose place what differs gives way.
    fn merged(mut self, now: Self, differences: &Differences, renumbers: bool) -> Self {
        if !differences.run.is_empty() || !differences.images.is_empty() {
            return now;
        }
        self.sets.extend(now.sets);
        self.files.extend(now.files);
        let mut images: BTreeMap<String, ImageRecord> =
            self.images.into_iter().map(|image| (image.name.clone(), image)).collect();
        for image in now.images {
            match images.get_mut(&image.name) {
                Some(there) => {
                    there.extend(&image);
                    if renumbers {
                        there.number = image.number;
                    }
                }
                None => drop(images.insert(image.name.clone(), image)),
            }
        }
        self.images = images.into_values().collect();
        self.images.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
        self
    }
}

/// The layers of a set; of a set made of others those of the first.
fn layers(set: &Options) -> Vec<String> {
    let own = set.get("layer").and_then(Value::as_array);
    let first = || set.get("of")?.get(0)?.get("layer")?.as_array();
    let names = own.or_else(first).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}
