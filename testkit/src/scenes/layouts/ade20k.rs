//! ADE20K's layout (`ADEChallengeData2016`): JPEG images, and PNG annotations in which 0 is what has no class.

use std::path::Path;

use driftless::Result;
use driftless::vision::Gray;

use super::{DataSet, Split, create_parent, write_jpeg};
use crate::scenes::{Rendered, Scene};

/// Writes `images/{training,validation}/ADE_{train,val}_NNNNNNNN.jpg` with `annotations/.../*.png`: class `i + 1` is category `i` of
/// [`crate::scenes::CATEGORIES`], 0 the ground. Up to two objects an image.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, data: &DataSet, training: usize, validation: usize) -> Result<()> {
    let splits = [(Split::Training, "training", "train", training), (Split::Validation, "validation", "val", validation)];
    for (split, directory, short, count) in splits {
        for index in 0..count {
            let scene = data.scene(split, index, &data.wanted(None, 2));
            let rendered = scene.render();
            let stem = format!("ADE_{short}_{:08}", index + 1);
            write_jpeg(&folder.join("images").join(directory).join(format!("{stem}.jpg")), &rendered.image)?;
            let path = folder.join("annotations").join(directory).join(format!("{stem}.png"));
            create_parent(&path)?;
            category_mask(&scene, &rendered, 0, |category| category as u8 + 1).save_png(&path)?;
        }
    }
    Ok(())
}

/// A mask of categories by labels of the data set's own.
pub(super) fn category_mask(scene: &Scene, rendered: &Rendered, ground: u8, label: impl Fn(usize) -> u8) -> Gray {
    let labels: Vec<u8> = scene.objects.iter().map(|object| label(object.category)).collect();
    let of = |pixel: &u8| pixel.checked_sub(1).map_or(ground, |object| labels[usize::from(object)]);
    Gray { pixels: rendered.objects.pixels.iter().map(of).collect(), ..rendered.objects }
}
