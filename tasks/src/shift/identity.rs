//! Whether a run goes on with what an output folder holds: `score.json` says what made its scores, and a lock keeps others out.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use driftless::formats::{FileKind, read_bounded, write_atomically};
use features::fault::Fault;
use features::manifest::Manifest;
use serde::{Deserialize, Serialize};

use super::settings::{ShiftFault, ShiftSettings};
use super::{Lock, Result, output_error};

/// The record's name.
const RECORD: &str = "score.json";
/// What is locked while a run is at work.
const LOCK: &str = ".score.lock";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    scores: ShiftSettings,
    run: Manifest,
}

/// A line for each setting that differs.
fn differences(there: &ShiftSettings, now: &ShiftSettings) -> serde_json::Result<String> {
    let [there, now] = [there, now].map(serde_json::to_value);
    let (there, now) = (there?, now?);
    let names = now.as_object().into_iter().flat_map(|settings| settings.keys());
    let lines = names.filter(|name| there[name.as_str()] != now[name.as_str()]);
    Ok(lines.map(|name| format!("\n  --{name} was {}, is {}", there[name.as_str()], now[name.as_str()])).collect())
}

/// Takes the folder for as long as the lock lives. Where the file system has no locks, runs that begin in the same folder are on their own.
pub fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join(LOCK);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file: File = opened.map_err(driftless::Error::io(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Fault::of_file(folder, ShiftFault::Company).into()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

fn read(folder: &Path) -> Result<Option<serde_json::Result<Record>>> {
    match read_bounded(folder.join(RECORD), FileKind::List) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes))),
        Err(driftless::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What an earlier run knew of files.
pub fn known(folder: &Path) -> Option<Manifest> {
    Some(read(folder).ok()??.ok()?.run)
}

/// Compares with what is there, and records what is now.
pub fn enter(folder: &Path, settings: &ShiftSettings, run: Manifest, overwrite: bool) -> Result<()> {
    let path = folder.join(RECORD);
    let now = Record { scores: settings.clone(), run };
    if !overwrite {
        match read(folder)? {
            None => {}
            Some(Err(cause)) => return Err(Fault::of_file(&path, ShiftFault::NoRecord { cause }).into()),
            Some(Ok(there)) => {
                let scores = differences(&there.scores, settings).map_err(|error| output_error(&path)(error.into()))?;
                let differences = scores + &there.run.differences(&now.run).unwrap_or_default();
                if !differences.is_empty() {
                    return Err(Fault::of_file(folder, ShiftFault::OtherSettings { differences }).into());
                }
            }
        }
    }
    let text = serde_json::to_string_pretty(&now).map_err(|error| output_error(&path)(error.into()))?;
    Ok(write_atomically(&path, |file| file.write_bytes(format!("{text}\n").as_bytes()))?)
}
