//! Options of drawing features.

use std::path::PathBuf;

use clap::Args;

use super::{ANY, non_empty_path, whole};

/// Components of a basis where nothing else is asked for.
const COMPONENTS: usize = 256;

/// Options of `extract pca`.
#[derive(Debug, Args)]
pub struct PcaArgs {
    /// Feature files (.npy, .safetensors) or folders of them
    #[arg(required = true, value_name = "INPUT", value_parser = non_empty_path)]
    pub inputs: Vec<PathBuf>,
    /// Folder of the images that are drawn
    #[arg(long, required_unless_present = "fit", value_name = "DIR", value_parser = non_empty_path)]
    pub output: Option<PathBuf>,
    /// Write a basis of each layer of all inputs together, on which `extract --pca FILE --pca-dims N` projects features; without --output
    /// nothing is drawn
    #[arg(long, value_name = "FILE.safetensors", value_parser = non_empty_path, conflicts_with_all = ["channels", "attention"])]
    pub fit: Option<PathBuf>,
    /// Most components of a basis that --fit writes
    #[arg(long, default_value_t = COMPONENTS, value_name = "N", value_parser = whole::<usize>(1..=u64::MAX), requires = "fit")]
    pub pca_dims: usize,
    /// Channels of each layer in an aggregated file, in order; every layer becomes an image [default: all channels are one layer]
    #[arg(long, num_args = 1.., value_name = "N", value_parser = whole::<usize>(ANY))]
    pub channels: Vec<usize>,
    /// Attention categories that follow the layers in an aggregated file, in order; drawn piece by piece and token by token
    #[arg(long, num_args = 1.., value_name = "CATEGORY")]
    pub attention: Vec<driftless::taps::AttentionCategory>,
    /// Text tokens of a cross-attention map
    #[arg(long, default_value_t = 77, value_name = "N", value_parser = whole::<usize>(ANY))]
    pub tokens: usize,
    /// Side of the images in pixels
    #[arg(long, default_value_t = 512, value_name = "PIXELS", value_parser = whole::<usize>(ANY))]
    pub size: usize,
    /// The images themselves, a folder or pattern: a first column of the sheet, and what attention is laid over; by file name
    #[arg(long, value_name = "PATTERN", num_args = 1.., value_parser = non_empty_path, requires = "output")]
    pub images: Vec<PathBuf>,
    /// Tokens, counted from 0, whose attention is laid over the images where there are cross-attention maps [default: all but the start]
    #[arg(long, num_args = 1.., value_name = "N", value_parser = whole::<usize>(ANY), requires = "images")]
    pub token: Vec<usize>,
    /// Draw every image in one basis for all inputs of its layer, in which colors can be compared [default: the sheet alone; images are
    /// each drawn in a basis of their own, as the original's]
    #[arg(long, requires = "output")]
    pub common: bool,
    /// Where several inputs are put side by side, a column each; further pages go beside it, FILE-002.png and so on [default:
    /// OUTPUT/sheet.png when there are several inputs]
    #[arg(long, value_name = "FILE.png", value_parser = non_empty_path, requires = "output")]
    pub sheet: Option<PathBuf>,
    /// Rows on a page of the sheet
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = whole::<usize>(ANY))]
    pub sheet_rows: usize,
}
