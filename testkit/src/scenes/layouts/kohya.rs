//! The paper's training guide: the same images in three folders of ten repeats each, with empty captions, tags and sentences.

use std::path::Path;

use driftless::Result;

use super::{DataSet, Split, create_parent, write_text};

/// Writes `count` training images in each of `10_empty`, `10_wd` and `10_kosmos`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, data: &DataSet, count: usize) -> Result<()> {
    for index in 0..count {
        let scene = data.scene(Split::Training, index, &data.wanted(None, 1));
        let image = scene.render().image;
        for (group, caption) in [("10_empty", String::new()), ("10_wd", scene.tags()), ("10_kosmos", scene.sentence())] {
            let path = folder.join(group).join(format!("{index:05}.png"));
            create_parent(&path)?;
            image.save_png(&path)?;
            write_text(&path.with_extension("txt"), &caption)?;
        }
    }
    Ok(())
}

/// Writes `count` images that no training set has, `NNNNN.png`, each with its sentence beside it.
///
/// # Errors
/// When a file cannot be written.
pub fn write_held_out(folder: &Path, data: &DataSet, count: usize) -> Result<()> {
    for index in 0..count {
        let scene = data.scene(Split::Test, index, &data.wanted(None, 1));
        let path = folder.join(format!("{index:05}.png"));
        create_parent(&path)?;
        scene.render().image.save_png(&path)?;
        write_text(&path.with_extension("txt"), &scene.sentence())?;
    }
    Ok(())
}
