//! Models on a hub: how they are requested, and the progress of downloads.

use crate::console::Console;
use crate::interrupt;
use driftless::hub::{HubOptions, Progress, Transfer};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

/// How to ask a hub: as the environment says (`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`), at a revision, half-precision
/// files first where `half`, and with progress on this console.
pub fn options(revision: Option<String>, half: bool, console: &Console) -> HubOptions {
    HubOptions { revision, half, progress: Some(downloads(*console)), ..HubOptions::from_env() }
}

/// Tells about downloads, a bar for each file, and stops them when the user wants to.
fn downloads(console: Console) -> Progress {
    // The bar of the current file, or its name where no bar is drawn.
    let current: Mutex<Option<(String, Option<ProgressBar>)>> = Mutex::new(None);
    Arc::new(move |transfer: &Transfer<'_>| {
        if interrupt::requested() {
            return ControlFlow::Break(());
        }
        // A bar has no broken intermediate state.
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(file, _)| file != transfer.file) {
            *current = Some((transfer.file.to_owned(), begin(transfer, &console)));
        }
        if let Some((_, Some(bar))) = current.as_ref() {
            bar.set_position(transfer.done);
            if transfer.total == Some(transfer.done) {
                bar.finish();
            }
        }
        ControlFlow::Continue(())
    })
}

fn begin(transfer: &Transfer<'_>, console: &Console) -> Option<ProgressBar> {
    let name = format!("{}/{}", transfer.repository, transfer.file);
    let style = ProgressStyle::with_template("{msg}  {bar:20} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left");
    let bar = console.bar(transfer.total, style);
    match &bar {
        Some(bar) => bar.set_message(crate::escape::one_line(&name).into_owned()),
        None => console.info_with(format!("downloading {name}"), json!({ "bytes": transfer.total })),
    }
    bar
}
