//! ddpm-segmentation's data sets: images of one category, and beside each its part labels.

use std::path::Path;

use driftless::vision::Gray;
use driftless::{Error, Result};
use npyz::WriterBuilder;

use super::{DataSet, Split, create_parent};
use crate::scenes::CATEGORIES;

/// Writes `real/train` and `real/test` with `N.png` and `N.npy` (`[height, width]`, uint8; 0 is the ground, `i + 1` the name `i` of
/// [`crate::scenes::Category::part_names`]), and returns the number of classes.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, data: &DataSet, category: usize, training: usize, test: usize) -> Result<usize> {
    for (split, name, count) in [(Split::Training, "train", training), (Split::Test, "test", test)] {
        for index in 0..count {
            let rendered = data.scene(split, index, &data.wanted(Some(category), 1)).render();
            let path = folder.join("real").join(name).join(format!("{index}.png"));
            create_parent(&path)?;
            rendered.image.save_png(&path)?;
            write_labels(&path.with_extension("npy"), &rendered.parts)?;
        }
    }
    Ok(CATEGORIES[category].part_names().len() + 1)
}

fn write_labels(path: &Path, labels: &Gray) -> Result<()> {
    let bytes = npy(labels).map_err(Error::io(path))?;
    driftless::formats::write_atomically(path, |file| file.write_bytes(&bytes))
}

fn npy(labels: &Gray) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let shape = [labels.height as u64, labels.width as u64];
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd()?;
    writer.extend(labels.pixels.iter().copied())?;
    writer.finish()?;
    Ok(bytes)
}
