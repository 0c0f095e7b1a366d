//! Scenes as the folders of public data sets, so that readers meet them in the form in which they are distributed.
//!
//! | file | layout |
//! | --- | --- |
//! | [`spair`] | SPair-71k's folders, and the lists of pairs that diffusion-hyperfeatures made of them |
//! | [`label_scarce`] | ddpm-segmentation's: `real/{train,test}/N.png` with `N.npy` |
//! | [`ade20k`] | `images/` and `annotations/` |
//! | [`cityscapes`] | `leftImg8bit/` and `gtFine/` |
//! | [`kohya`] | the three groups of captioned images of the paper's training guide |

use std::path::Path;

use driftless::formats::write_atomically;
use driftless::vision::Rgb;
use driftless::{Error, Result};
use libjpeg_turbo_rs::{PixelFormat, Subsampling};

use super::{Scene, Style, Wanted};

pub mod ade20k;
pub mod cityscapes;
pub mod kohya;
pub mod label_scarce;
pub mod spair;

/// What a data set shows.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// How its images look.
    pub style: Style,
    /// The shorter side of its images, in pixels.
    pub side: usize,
    /// Decides all scenes; data sets of one layout and different seeds have no image in common.
    pub seed: u64,
}

/// A split of a data set: scenes of different splits differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    Training,
    Validation,
    Test,
}

impl DataSet {
    /// Scene `index` of a split.
    fn scene(&self, split: Split, index: usize, wanted: &Wanted) -> Scene {
        // Below 2^32, as seeds that torch and numpy take too: 4,096 data sets of three splits of 262,144 scenes.
        let split = split as u64;
        Scene::new((self.seed % 4_096) << 20 | split << 18 | (index as u64 & 0x3_ffff), wanted)
    }

    fn wanted(&self, category: Option<usize>, objects: usize) -> Wanted {
        Wanted { style: self.style, size: [self.side; 2], category, objects }
    }
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    create_parent(path)?;
    write_atomically(path, |file| file.write_bytes(text.as_bytes()))
}

fn write_jpeg(path: &Path, image: &Rgb) -> Result<()> {
    create_parent(path)?;
    let bytes = libjpeg_turbo_rs::compress(&image.pixels, image.width, image.height, PixelFormat::Rgb, 95, Subsampling::S444)
        .map_err(|problem| Error::io(path)(std::io::Error::other(problem.to_string())))?;
    write_atomically(path, |file| file.write_bytes(&bytes))
}

fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io(folder))
}
