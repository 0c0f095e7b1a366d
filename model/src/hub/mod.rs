//! Models by name: a local path, or `owner/name` on a model hub, downloaded into the cache that Python's `huggingface_hub` and the
//! `hf-hub` crate use too.
//!
//! Mirrors what `DiffusionPipeline.download` (diffusers 0.32) and `hf_hub_download` (huggingface_hub 0.36) leave on disk.
//! Differences, all on purpose:
//! - A revision that is in the cache whole is used without asking the hub whether the branch has moved.
//! - Only what an SD1.5 pipeline reads is fetched: no safety checker, no `.bin`, no second precision.
//! - `*.fp16.safetensors` weights are taken unasked where a network has no others; diffusers wants `variant="fp16"` for it.
//! - When the hub cannot be reached, a complete snapshot of the other precision will do.
//! - Every file is checked against the hash that the hub announces, SHA-256 or Git's; a connection that goes silent, or nearly so, is given
//!   up and taken up again; a server's `Retry-After` is honored up to two minutes.

mod cache;
mod client;
mod files;
mod options;
mod paced;
mod transfer;

pub use options::{DEFAULT_ENDPOINT, HubOptions, Progress, Transfer};

use crate::error::{ArgumentCause, Error, HubCause, Result};
use cache::{Snapshot, Store};
use client::{Client, Listing};
use files::{CONFIGURATION, CONTROLNET, Needs, PIPELINE};
use std::path::{Path, PathBuf};

/// The longest id the hub allows.
const LONGEST_ID: usize = 96;

/// The folder or file of a Stable Diffusion pipeline: `model` itself when it exists on disk, else the cached snapshot of
/// the hub id `owner/name`, downloaded where it is not there yet.
///
/// # Errors
/// [`Error::Argument`] when `model` is neither an existing path nor a hub id; [`Error::Hub`] when the hub (or, offline, the
/// cache) does not have it; [`Error::Io`] for the cache's disk.
pub fn resolve(model: &str, options: &HubOptions) -> Result<PathBuf> {
    resolve_as(&PIPELINE, model, options)
}

/// As [`resolve`], without the weights: the configurations and the tokenizer that a checkpoint in one file lacks.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_configuration(model: &str, options: &HubOptions) -> Result<PathBuf> {
    resolve_as(&CONFIGURATION, model, options)
}

/// As [`resolve`], for a ControlNet: `config.json` and its weights.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_controlnet(model: &str, options: &HubOptions) -> Result<PathBuf> {
    resolve_as(&CONTROLNET, model, options)
}

/// One file of a repository, by its path in there, from the cache or the hub.
///
/// # Errors
/// [`Error::Argument`] when `repository` is no hub id or `file` no plain relative path, else as [`resolve`].
pub fn download(repository: &str, file: &str, options: &HubOptions) -> Result<PathBuf> {
    if !is_hub_id(repository) {
        return Err(Error::argument("repository", ArgumentCause::NotAHubId { found: repository.to_owned() }));
    }
    if !files::is_plain_path(file) {
        return Err(Error::argument("file", ArgumentCause::NotInARepository { found: file.to_owned() }));
    }
    let (client, store) = open(repository, options)?;
    if let Some(path) = store.file(file) {
        return Ok(path);
    }
    if options.offline {
        return Err(missing_offline(&client, &store, &[file.to_owned()]));
    }
    let Listing { commit, .. } = transfer::with_retries(&client, || client.list())?;
    let path = transfer::fetch(&client, &store, &commit, file)?;
    store.note(&commit)?;
    Ok(path)
}

fn resolve_as(needs: &Needs, model: &str, options: &HubOptions) -> Result<PathBuf> {
    if Path::new(model).exists() {
        return Ok(PathBuf::from(model));
    }
    if !is_hub_id(model) {
        return Err(Error::argument("model", ArgumentCause::NoSuchModel { found: model.to_owned(), expected: needs.kind }));
    }
    let (client, store) = open(model, options)?;
    let cached = store.find(needs, options.half);
    match cached {
        Ok(Snapshot { folder, preferred }) if preferred || options.offline => Ok(folder),
        Err(missing) if options.offline => Err(missing_offline(&client, &store, &missing)),
        cached => {
            let listing = match (transfer::with_retries(&client, || client.list()), cached) {
                (Ok(listing), _) => listing,
                (Err(Error::Hub { .. }), Ok(snapshot)) => return Ok(snapshot.folder),
                (Err(error), _) => return Err(error),
            };
            fetch_all(needs, &client, &store, &listing)
        }
    }
}

fn open<'a>(repository: &'a str, options: &'a HubOptions) -> Result<(Client<'a>, Store)> {
    let revision = options.revision();
    if !files::is_plain_path(revision) {
        return Err(Error::argument("revision", ArgumentCause::NotARevision { found: revision.to_owned() }));
    }
    let Some(cache) = &options.cache else {
        return Err(Error::argument("HF_HOME", ArgumentCause::NoCache));
    };
    Ok((Client::new(repository, options)?, Store::new(cache, repository, revision)))
}

/// Downloads everything that `needs` chooses out of the listing.
fn fetch_all(needs: &Needs, client: &Client<'_>, store: &Store, listing: &Listing) -> Result<PathBuf> {
    let selection = needs.select(&listing.names, client.options.half);
    if !selection.missing.is_empty() {
        return Err(not_that_kind(needs, client, listing, &selection.missing));
    }
    let commit = &listing.commit;
    for file in &selection.small {
        transfer::fetch(client, store, commit, file)?;
    }
    let mut weights = selection.whole;
    for index in &selection.indexes {
        weights.extend(files::shards(&transfer::fetch(client, store, commit, index)?, index)?);
    }
    for file in &weights {
        transfer::fetch(client, store, commit, file)?;
    }
    store.note(commit)?;
    Ok(store.snapshot(commit))
}

fn not_that_kind(needs: &Needs, client: &Client<'_>, listing: &Listing, missing: &[String]) -> Error {
    let cause = HubCause::NotOfThatKind { expected: needs.kind, missing: list(missing) };
    let pickled = listing.names.iter().any(|name| name.ends_with(".bin") || name.ends_with(".ckpt"));
    let single = listing.names.iter().find(|name| !name.contains('/') && name.ends_with(".safetensors"));
    let advice = match single {
        Some(file) => format!("download {file} and give that file"),
        None if pickled => {
            "its weights are pickles; download them and turn them into a folder with `convert diffusers`".to_owned()
        }
        None => "name a repository in diffusers' layout".to_owned(),
    };
    client.error(cause, advice)
}

fn missing_offline(client: &Client<'_>, store: &Store, missing: &[String]) -> Error {
    client.error(
        HubCause::Offline {
            cache: store.root().to_owned(),
            missing: list(missing),
            revision: client.options.revision().to_owned(),
        },
        "unset HF_HUB_OFFLINE to download it, or give the folder of a model that is on this machine",
    )
}

/// At most four names.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 4 { format!("{shown} and {} more", names.len() - 4) } else { shown }
}

/// Whether `model` can be an id: `owner/name`, and nothing that looks like a path or a weight file.
fn is_hub_id(model: &str) -> bool {
    let is_name = |name: &str| files::is_plain_name(name) && !name.starts_with('-') && !name.ends_with(['.', '-']);
    let twice = model.contains("--") || model.contains("..");
    let extension = Path::new(model).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let weights = ["safetensors", "ckpt", "pt", "pth", "bin"].contains(&extension.to_ascii_lowercase().as_str());
    match model.split_once('/') {
        Some((owner, name)) => model.len() <= LONGEST_ID && is_name(owner) && is_name(name) && !twice && !weights,
        None => false,
    }
}
