//! What can be wrong with a feature set.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::path::PathBuf;

use driftless::taps::LayerId;

/// What is wrong with a set, or with sets that are fused. The set itself is named by what stands around it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetFault {
    #[error("the name is a folder's and cannot be a path")]
    NameIsAPath,
    #[error("the name is that of a file which a run writes beside its sets; give the set another")]
    NameTaken,
    #[error("two sets have this name")]
    NameTwice,
    #[error("[[set]] number {number} has no name; its folder is called after it")]
    NoName { number: usize },
    #[error("--t is needed: the noise level, 0 to 999; the paper uses 50")]
    NoTimestep,
    #[error("t is {found}; expected 0 to 999, a whole number where noise is added")]
    Timestep { found: f64 },
    #[error("t is {found}; expected 0 to 999")]
    CleanTimestep { found: f64 },
    #[error("{option} makes noisy latents, and noise is `none`; leave one of the two out")]
    CleanWith { option: &'static str },
    #[error("ensemble is {draws}, the mean over so many draws of the noise, and noise is `none`; leave one of the two out")]
    CleanEnsemble { draws: usize },
    #[error(
        "`vae-out` is the image after one step of denoising, which clean latents (noise `none`) have none of; leave the layer out"
    )]
    CleanVaeOut,
    #[error(
        "--t is needed: with noise `none` the timestep at which the network was trained on clean latents, a fraction perhaps; adapters of \
         `train --objective cleandift` name it themselves"
    )]
    NoCleanTimestep,
    #[error("{} was trained on clean latents at t = {}, {} at {}; give --t", files[0].display(), found[0], files[1].display(), found[1])]
    SeveralCleanTimesteps { found: [f64; 2], files: [PathBuf; 2] },
    #[error("no such file or folder; expected a UNet's weights (FILE) or a folder of diffusers (DIR)")]
    NoUnet,
    #[error("denoising_from is {found}; expected a noisier level than t = {t}, at most 999")]
    DenoisingFrom { found: usize, t: usize },
    #[error("ensemble is 0; expected 1 or more draws of the noise")]
    Ensemble,
    #[error("feature_resize is 0; expected 1 or more")]
    Pooling,
    #[error("--feature-resize {ratio} leaves nothing of `{layer}`, which is {shape}")]
    PooledAway { ratio: usize, layer: LayerId, shape: String },
    #[error("a ControlNet needs an image size that is a multiple of 8, not {found}")]
    ControlNetSize { found: usize },
    #[error("the scale of `{kind}` is not finite")]
    ControlScale { kind: String },
    #[error("`{kind}` steers from {start} to {end}; expected shares of the steps, 0 <= start < end <= 1")]
    ControlRange { kind: String, start: f64, end: f64 },
    #[error("no such adapter file")]
    NoAdapterFile,
    #[error("give one of prompt, prompt_file, caption_dir and prompt_csv")]
    SeveralPrompts,
    /// Follows from another fault.
    #[error("cannot be planned")]
    NotPlanned,
    #[error(
        "one aggregated file would have {gigabytes} GB: attention maps (`-map` layers) are stretched to the largest layer; leave them \
         out or leave out --aggregate-output"
    )]
    AggregateSize { gigabytes: u64 },

    #[error("`write = false`, but no set is made of it by `fuse`")]
    NotWritten,
    #[error("fuse_mode without fuse; name the sets to fuse")]
    FuseModeAlone,
    #[error("is made of other sets by `fuse` and takes nothing else but `name` and `fuse_mode`")]
    FusionWithOptions,
    #[error("fuse names `{found}`; expected sets that are extracted: {expected}")]
    UnknownSource { found: String, expected: String },
    #[error("fuse names no set; expected two or more")]
    NoSource,
    #[error("fuse names one set; expected two or more")]
    OneSource,
    #[error(
        "fuses sets of different models, of which one is loaded at a time; make adapters of the merged models with `convert \
         extract-lora`, or fuse the files of two runs"
    )]
    SeveralModels,
    #[error("`{}` and `{}` differ in {difference} and cannot be fused", sources[0], sources[1])]
    Unequal { sources: [String; 2], difference: &'static str },
}
