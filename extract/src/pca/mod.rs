//! Features as pictures: `extract pca`, the original's `feature_visualization.py` with its settings as options.
//!
//! Differences: all components are exact and computed in float64; folders of features and safetensors files are drawn, too; several
//! inputs are put side by side in a sheet; features that are not square keep their shape.

mod components;
mod decomposition;
mod picture;
mod pieces;
mod sheet;
mod sources;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use driftless::vision::{Picture, Rgb};

use crate::args::PcaArgs;
use crate::inputs::find_images;
use crate::plan::Fault;
use crate::report::Reporter;

use pieces::Cuts;
use sheet::Sheet;
use sources::Source;

/// The sheet's column of the images themselves.
const IMAGE_COLUMN: &str = "image";

/// Draws all inputs.
///
/// # Errors
/// When an input is no feature, or a picture cannot be written.
pub fn draw(args: &PcaArgs, reporter: &Reporter) -> Result<()> {
    if !(1..=8192).contains(&args.size) {
        return Err(Fault::usage(format!("--size {}: expected 1 to 8192 pixels", args.size)).into());
    }
    let sources = sources::find(&args.inputs)?;
    let images = args.images.as_deref().map(images_by_name).transpose()?;
    let mut sets: Vec<String> = Vec::new();
    for source in &sources {
        if !sets.contains(&source.set) {
            sets.push(source.set.clone());
        }
    }
    let several = sets.len() > 1;
    let cuts = Cuts { layers: args.channels.clone(), attention: args.attention.clone(), tokens: args.tokens };
    let mut sheet = Sheet::new(images.iter().map(|_| IMAGE_COLUMN.to_owned()).chain(sets));
    let mut count = 0;
    for source in &sources {
        let folder = if several { args.output.join(&source.set) } else { args.output.clone() };
        count += draw_source(source, &folder, &cuts, args, &mut sheet)
            .with_context(|| format!("{} of {}", source.name, source.set))?;
        reporter.detail(|| format!("{}: {}", source.set, source.name));
    }
    let wants_sheet = several || args.sheet.is_some() || images.is_some();
    let place = args.sheet.clone().unwrap_or_else(|| args.output.join("sheet.png"));
    if wants_sheet {
        add_images(&mut sheet, images.unwrap_or_default())?;
        save(&sheet.draw(), &place)?;
        count += 1;
    }
    let beside = if wants_sheet { format!(", side by side in {}", place.display()) } else { String::new() };
    reporter.info(&format!("{count} pictures written to {}{beside}", args.output.display()));
    Ok(())
}

/// Draws one feature and says how many pictures that made.
fn draw_source(source: &Source, folder: &Path, cuts: &Cuts, args: &PcaArgs, sheet: &mut Sheet) -> Result<usize> {
    let array = source.read()?;
    let mut count = 0;
    for piece in cuts.cut(&array.feature).map_err(|problem| anyhow!(problem))? {
        let name = if piece.name.is_empty() { source.name.clone() } else { format!("{}/{}", source.name, piece.name) };
        let picture = picture::components(&piece.feature).map_err(|problem| anyhow!("{name} {problem}"))?;
        let has_room = sheet.rows().count() < args.sheet_rows || sheet.rows().any(|row| row == name);
        if has_room {
            sheet.put(&name, &source.set, &picture);
        }
        save(&picture::enlarged(&picture, args.size), &folder.join(format!("{name}.png")))?;
        count += 1;
        if piece.is_attention {
            let [_, height, width] = piece.feature.shape;
            for (token, values) in piece.feature.values.chunks_exact((height * width).max(1)).enumerate() {
                let picture = picture::token(values, height, width, array.is_half);
                save(&picture, &folder.join(&name).join(format!("{token}.png")))?;
                count += 1;
            }
        }
    }
    Ok(count)
}

fn save(picture: &Rgb, path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(picture.save_png(path)?)
}

/// Image files by their name without extension.
fn images_by_name(pattern: &str) -> Result<BTreeMap<String, std::path::PathBuf>> {
    let paths = find_images(pattern, true)?;
    Ok(paths.into_iter().filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path.clone()))).collect())
}

/// Puts beside each row the image of that name: the file's in any part of the row's path, the last first.
fn add_images(sheet: &mut Sheet, images: BTreeMap<String, std::path::PathBuf>) -> Result<()> {
    let rows: Vec<String> = sheet.rows().map(str::to_owned).collect();
    for row in rows {
        if let Some(path) = row.rsplit('/').find_map(|part| images.get(part)) {
            sheet.put(&row, IMAGE_COLUMN, &Picture::open(path)?.to_rgb());
        }
    }
    Ok(())
}
