//! What each image is called in the output.
//!
//! As the original: SPLIT and running number, or with `--use_original_filename` the file name without its last extension, with
//! `--nested_input_dir` after the parent folder's name. Difference: two images of one name are an error, where the original lets the
//! second overwrite the first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::fault::{Fault, InputFault};

/// How images are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// First part of numbered names.
    pub split: String,
    /// The file's own name instead of a number.
    pub original: bool,
    /// The parent folder's name in front of the file's own.
    pub nested: bool,
}

/// An image and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number among all images, from 0, before sharding.
    pub index: usize,
    /// Its noise is drawn from `seed + number`: its index when the output first listed it.
    pub number: usize,
    /// The image file.
    pub path: PathBuf,
    /// Name in the output, `/` between the parent folder's name and the file's.
    pub name: String,
}

/// Names all images.
///
/// # Errors
/// When two images get the same name, or a name is not valid Unicode.
pub fn name_samples(paths: Vec<PathBuf>, rule: &NameRule) -> Result<Vec<Sample>, Fault> {
    let mut samples: Vec<Sample> = Vec::with_capacity(paths.len());
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(paths.len());
    for (index, path) in paths.into_iter().enumerate() {
        let name = match rule.original {
            true => original_name(&path, rule.nested)?,
            false => format!("{}{index}", rule.split),
        };
        if let Some(first) = taken.insert(name.clone(), index) {
            let advice = match rule.nested {
                true => "rename one, or leave --use-original-filename out",
                false => "use --nested-input-dir, or leave --use-original-filename out",
            };
            let files = [samples[first].path.clone(), path];
            return Err(Fault::failure(InputFault::SameName { files, name, advice }));
        }
        samples.push(Sample { index, number: index, path, name });
    }
    Ok(samples)
}

/// `stem`, or `parent/stem`.
pub fn original_name(path: &Path, nested: bool) -> Result<String, Fault> {
    let no_text = || Fault::of_file(path, InputFault::NameNotUnicode);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or_else(no_text)?;
    // They would be folders, the second one outside of the output.
    if stem == "." || stem == ".." {
        return Err(Fault::of_file(path, InputFault::Dots { stem: stem.to_owned() }));
    }
    if !nested {
        return Ok(stem.to_owned());
    }
    match parent_name(path) {
        Some(parent) => Ok(format!("{}/{stem}", parent.to_str().ok_or_else(no_text)?)),
        None => Ok(stem.to_owned()),
    }
}

/// The name of the folder a file is in; `.` and `..` are followed to the folder that they mean, so that no file is written outside the output folder.
pub(super) fn parent_name(path: &Path) -> Option<std::ffi::OsString> {
    let parent = path.parent()?;
    if let Some(name) = parent.file_name() {
        return Some(name.to_owned());
    }
    if parent.as_os_str().is_empty() {
        return None;
    }
    parent.canonicalize().ok()?.file_name().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str], original: bool, nested: bool) -> Result<Vec<String>, Fault> {
        let rule = NameRule { split: "test".to_owned(), original, nested };
        let samples = name_samples(paths.iter().map(PathBuf::from).collect(), &rule)?;
        Ok(samples.into_iter().map(|sample| sample.name).collect())
    }

    #[test]
    fn names_of_the_original() {
        assert_eq!(names(&["a/x.png", "b/x.png"], false, false).unwrap(), ["test0", "test1"]);
        assert_eq!(names(&["a/x.png", "b/x.png"], false, true).unwrap(), ["test0", "test1"]);
        assert_eq!(names(&["a/x.y.png", "a/.hidden"], true, false).unwrap(), ["x.y", ".hidden"]);
        assert_eq!(names(&["root/a/x.png", "root/b/x.png", "y.png"], true, true).unwrap(), ["a/x", "b/x", "y"]);
    }

    #[test]
    fn equal_names_are_refused() {
        let message = names(&["a/x.png", "b/x.png"], true, false).unwrap_err().to_string();
        assert!(
            message.contains("a/x.png") && message.contains("b/x.png") && message.contains("--nested-input-dir"),
            "{message}"
        );
        assert!(names(&["a/x.png", "a/x.jpg"], true, true).is_err());
    }

    #[test]
    fn no_name_climbs_out_of_the_output() {
        let here = std::env::current_dir().unwrap();
        let above = here.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(names(&["../x.png"], true, true).unwrap(), [format!("{above}/x")]);
        for wrong in ["a/...png", "a/..png"] {
            assert!(names(&[wrong], true, false).unwrap_err().to_string().contains("rename the file"), "{wrong}");
        }
    }
}
