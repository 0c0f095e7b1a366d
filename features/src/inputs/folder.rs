//! `{folder}` in prompts and in the names of adapters: the name of the folder that an image is in. Data sets keep their categories in
//! folders, so this is how each category gets a prompt and weights of its own.

use super::Sample;
use super::names::parent_name;
use crate::fault::{Fault, InputFault};

/// The placeholder for the folder's name.
const FOLDER: &str = "{folder}";

/// Whether a text differs from folder to folder.
pub fn depends_on_folder(text: &str) -> bool {
    text.contains(FOLDER)
}

/// The text for an image.
///
/// # Errors
/// When the text needs the folder's name and there is none.
pub fn with_folder(text: &str, sample: &Sample) -> Result<String, Fault> {
    if !depends_on_folder(text) {
        return Ok(text.to_owned());
    }
    let name = parent_name(&sample.path).and_then(|name| name.into_string().ok());
    match name {
        Some(name) => Ok(text.replace(FOLDER, &name)),
        None => Err(Fault::of_file(&sample.path, InputFault::NoFolderName { placeholder: FOLDER })),
    }
}
