//! Lines of scores, as `scores.csv` has them, and the record of one image: its lines, written whole when it is through.

use std::path::{Path, PathBuf};

use driftless::formats::{FileKind, read_text, write_atomically};
use features::inputs::Sample;
use features::set::Timestep;

use super::kind::Kind;
use super::{Result, output_error};

/// All images' lines.
pub const SCORES: &str = "scores.csv";
/// The first line.
pub const HEADER: &str = "image,set,timestep,layer,score,value\n";
/// The folder of the records.
const FOLDER: &str = "images";

/// One score of one image.
#[derive(Clone, Debug)]
pub struct Line {
    /// The set's name.
    pub set: String,
    /// Where it was taken; `None` for features that were written.
    pub timestep: Option<Timestep>,
    /// The layer's id; empty for what is said of the whole prediction.
    pub layer: String,
    /// The score.
    pub score: Kind,
    /// Its value.
    pub value: f64,
}

/// A timestep as it is written and read: a whole number, or of clean latents perhaps a fraction.
pub fn timestep_text(timestep: Timestep) -> String {
    match timestep {
        Timestep::Noised(t) => t.to_string(),
        Timestep::Clean(t) => t.get().to_string(),
    }
}

/// Lines of an image as text.
pub fn text(image: &str, lines: &[Line]) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for Line { set, timestep, layer, score, value } in lines {
        let timestep = timestep.map(timestep_text).unwrap_or_default();
        writer.write_record([image, set, &timestep, layer, score.name(), &value.to_string()])?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    // What was written are texts.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The records of an output folder.
pub struct Records {
    /// Where they stand.
    pub folder: PathBuf,
}

impl Records {
    /// Those of an output folder.
    pub fn new(output: &Path) -> Self {
        Self { folder: output.join(FOLDER) }
    }

    /// An image's record.
    pub fn path(&self, sample: &Sample) -> PathBuf {
        self.folder.join(format!("{}.csv", sample.name))
    }

    /// Whether an image is through.
    pub fn has(&self, sample: &Sample) -> bool {
        self.path(sample).is_file()
    }

    /// An image's lines.
    pub fn read(&self, sample: &Sample) -> Result<String> {
        Ok(read_text(self.path(sample), FileKind::List)?)
    }

    /// Writes an image's lines.
    pub fn write(&self, sample: &Sample, lines: &[Line]) -> Result<()> {
        let path = self.path(sample);
        let text = text(&sample.name, lines).map_err(|error| output_error(&path)(error.into()))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(driftless::Error::io(folder))?;
        }
        Ok(write_atomically(&path, |file| file.write_bytes(text.as_bytes()))?)
    }

    /// Removes all records, and what the report shows of images.
    pub fn clear(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(driftless::Error::io(&self.folder)(error).into()),
            _ => Ok(()),
        }
    }
}
