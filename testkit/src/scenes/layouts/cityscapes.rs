//! CityScapes' layout: wide images of cities, and their `labelIds`.

use std::path::Path;

use driftless::Result;

use super::ade20k::category_mask;
use super::{DataSet, Split, create_parent};
use crate::scenes::Wanted;

/// The label of the ground: a road's.
const GROUND: u8 = 7;
/// The labels of the categories: those of persons, riders and vehicles, all of them among the 19 that are evaluated.
const LABELS: [u8; 8] = [24, 25, 26, 27, 28, 31, 32, 33];

/// Writes `leftImg8bit/{train,val}/CITY/CITY_NNNNNN_000000_leftImg8bit.png` with `gtFine/.../*_gtFine_labelIds.png`, twice as wide as
/// high, up to three objects an image.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, data: &DataSet, training: usize, validation: usize) -> Result<()> {
    let wanted = Wanted { style: data.style, size: [data.side * 2, data.side], category: None, objects: 3 };
    let splits = [(Split::Training, "train", "aachen", training), (Split::Validation, "val", "frankfurt", validation)];
    for (split, directory, city, count) in splits {
        for index in 0..count {
            let scene = data.scene(split, index, &wanted);
            let rendered = scene.render();
            let file = |kind: &str, suffix: &str| {
                folder.join(kind).join(directory).join(city).join(format!("{city}_{index:06}_000000_{suffix}.png"))
            };
            let (image, labels) = (file("leftImg8bit", "leftImg8bit"), file("gtFine", "gtFine_labelIds"));
            create_parent(&image)?;
            rendered.image.save_png(&image)?;
            create_parent(&labels)?;
            category_mask(&scene, &rendered, GROUND, |category| LABELS[category]).save_png(&labels)?;
        }
    }
    Ok(())
}
