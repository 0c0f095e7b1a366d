//! What a run needs of the machine beside its data: the model and the adapter that it starts from, and folders that can be written.

use crate::faults::Faults;
use crate::model::location;
use crate::model::prediction;
use crate::model::skeleton::Skeleton;
use crate::monitor::Console;
use crate::network::{NetworkSettings, TrainedNetwork};
use crate::options::Options;
use crate::run::fault::RunFault;
use crate::run::memory;
use anyhow::{Context, Result};
use candle_core::Device;
use driftless::adapter::AdapterFile;
use driftless::formats::AtomicFile;
use std::path::Path;

/// The networks of the run as far as they are on this machine, and whatever is wrong with them or with the adapter that goes on them.
pub fn model(options: &Options, settings: Option<&NetworkSettings>, console: &Console, faults: &mut Faults) -> Option<Skeleton> {
    if let Ok(Some(here)) = location::local(&options.model) {
        faults.keep(prediction::check(&here.model, options, console));
    }
    let skeleton = Skeleton::new(&options.model, faults);
    let (Some(skeleton), Some(settings)) = (skeleton, settings) else {
        // What an adapter fits is not known; whether it is one is.
        options.network.network_weights.iter().for_each(|path| {
            faults.keep(AdapterFile::open(path).context("--network_weights"));
        });
        return None;
    };
    faults.keep(memory::ensure_possible(settings, &skeleton))?;
    if let Some(path) = &options.network.network_weights {
        faults.keep(fits(options, path, &skeleton));
    }
    Some(skeleton)
}

fn fits(options: &Options, weights: &Path, skeleton: &Skeleton) -> Result<()> {
    let (unet, text_encoder) = (skeleton.unet.slots(), skeleton.text_encoder.slots());
    let network = TrainedNetwork::attach(options, 0, unet, text_encoder, &Device::Cpu)?;
    let started = network.start_from(weights);
    unet.detach_all();
    text_encoder.detach_all();
    started
}

/// The folders that the run writes to; none is made.
pub fn folders(options: &Options, faults: &mut Faults) {
    let named = [
        ("output_dir", Some(&options.output.output_dir)),
        ("logging_dir", options.run.logging_dir.as_ref()),
        ("latent_cache_dir", options.data.latent_cache_dir.as_ref()),
    ];
    for (option, folder) in named {
        if let Some(folder) = folder {
            faults.keep(writable(folder).with_context(|| format!("--{option} {}", folder.display())));
        }
    }
}

/// That a file can be written in `folder`, or, where that is still to be made, in the folder that it will be made in.
fn writable(folder: &Path) -> Result<()> {
    let whole = std::path::absolute(folder)?;
    let Some(there) = whole.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()) else { return Ok(()) };
    if !there.is_dir() {
        return Err(RunFault::NotAFolder { path: there.to_owned() }.into());
    }
    // Gone again as soon as it is dropped.
    AtomicFile::create(there.join(".probe")).map(drop).context("cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_can_be_written_and_others() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        writable(folder.path()).unwrap();
        writable(&folder.path().join("new/and/deeper")).unwrap();
        assert!(!folder.path().join("new").exists(), "nothing is made");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let message = format!("{:#}", writable(&folder.path().join("file/out")).unwrap_err());
        assert!(message.contains("file is not a folder"), "{message}");
        #[cfg(target_os = "linux")]
        assert!(format!("{:#}", writable(Path::new("/proc/here")).unwrap_err()).contains("cannot be written"));
    }
}
