//! Progress of downloads from a hub.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use driftless::hub::{Progress, Transfer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::args::Logging;
use crate::interrupt;

/// Tells about downloads, and stops them when the user wants to.
pub fn watcher(logging: Logging) -> Progress {
    // The bar of the file in hand, or its name where no bar is drawn.
    let current: Mutex<Option<(String, Option<ProgressBar>)>> = Mutex::new(None);
    Arc::new(move |transfer: &Transfer<'_>| {
        if interrupt::requested() {
            return ControlFlow::Break(());
        }
        if logging.quiet {
            return ControlFlow::Continue(());
        }
        // A bar has no broken intermediate state.
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(file, _)| file != transfer.file) {
            *current = Some((transfer.file.to_owned(), begin(transfer, logging)));
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

fn begin(transfer: &Transfer<'_>, logging: Logging) -> Option<ProgressBar> {
    let name = format!("{}/{}", transfer.repository, transfer.file);
    if logging.log_json {
        eprintln!("{}", json!({ "level": "info", "message": format!("downloading {name}"), "bytes": transfer.total }));
        return None;
    }
    if !std::io::stderr().is_terminal() {
        eprintln!("downloading {name}");
        return None;
    }
    let style = ProgressStyle::with_template("{msg}  {bar:20} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::with_draw_target(transfer.total, ProgressDrawTarget::stderr()).with_message(name);
    // A template that does not parse would show indicatif's own style.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    Some(bar)
}
