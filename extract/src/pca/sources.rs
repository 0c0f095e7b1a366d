//! Which features are to be drawn.

use std::borrow::Cow;
use std::path::PathBuf;

use driftless_cli::escape;
use features::stores::{Source, SourceFault, find_features, refuse_equal_names};

/// All features of the inputs, in the inputs' order, sorted by name within each, under names that can be those of files.
///
/// # Errors
/// When an input does not exist or holds no feature, or two features have the same set and name.
pub fn find(inputs: &[PathBuf]) -> Result<Vec<Source>, SourceFault> {
    let mut sources = find_features(inputs)?;
    for source in &mut sources {
        (source.set, source.name) = (harmless(&source.set), harmless(&source.name));
    }
    refuse_equal_names(&sources)?;
    Ok(sources)
}

/// A name for files and messages: keys come from strangers' files, and control characters in them act on terminals.
fn harmless(name: &str) -> String {
    let acts = |letter: char| matches!(escape::one_line(letter.encode_utf8(&mut [0; 4])), Cow::Owned(_));
    name.chars().map(|letter| if acts(letter) { '_' } else { letter }).collect()
}
