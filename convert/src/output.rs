//! Where results go.

use crate::fault::Fault;
use driftless::{Error, Result};
use std::path::Path;

/// Makes the folder in which `output` shall stand, and refuses to write over the input.
pub fn prepare(input: &Path, output: &Path) -> Result<()> {
    if let (Ok(input), Ok(there)) = (input.canonicalize(), output.canonicalize())
        && input == there
    {
        return Err(Error::file(output, Fault::IsTheInput, "give another path for the output"));
    }
    match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::create_dir_all(parent).map_err(Error::io(parent)),
        _ => Ok(()),
    }
}

/// Whether the path names a safetensors file; otherwise it names a folder.
pub fn names_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
}

/// Whether the path names torch's format of whole checkpoints.
pub fn names_ckpt(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ckpt"))
}
