//! kohya's folder layout: a parent whose subfolders are named `REPEATS_class text` and hold images.
//!
//! Mirrors `config_util.generate_dreambooth_subsets_config_by_subdirs` of sd-scripts 48d368f. Deliberate differences: subfolders are taken
//! in the order of their names (there in that of the file system), and a layout that holds nothing usable is an error that says what it
//! looks like instead.

use super::fault::DataFault;
use super::images_in;
use super::plan::SubsetPlan;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The subsets below `parent`, each like `template` but for folder, repeats and class text; and a warning for each subfolder that
/// is left out.
///
/// # Errors
/// When the folder cannot be read or has no usable subfolder.
pub fn subsets(parent: &Path, option: &str, template: &SubsetPlan) -> Result<(Vec<SubsetPlan>, Vec<String>)> {
    let (mut subsets, mut left_out) = (Vec::new(), Vec::new());
    for folder in subfolders(parent, option)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match repeats_and_class(&name) {
            Some((repeats, class)) => {
                subsets.push(SubsetPlan { image_dir: folder, repeats, class_tokens: Some(class.to_owned()), ..template.clone() })
            }
            None => left_out.push(name),
        }
    }
    if subsets.is_empty() {
        return Err(explain(parent, option, &left_out).into());
    }
    let warnings = left_out.iter().map(|name| {
        format!(
            "{}: left out, because its name does not begin with a number of repeats, as in 10_{name}",
            parent.join(name).display()
        )
    });
    Ok((subsets, warnings.collect()))
}

fn subfolders(parent: &Path, option: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(parent).with_context(|| format!("--{option} {}", parent.display()))?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("--{option} {}", parent.display()))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// `10_a_b` is 10 repeats of `a_b`.
fn repeats_and_class(name: &str) -> Option<(usize, &str)> {
    let (number, class) = name.split_once('_').unwrap_or((name, ""));
    let repeats = number.trim().parse().ok().filter(|repeats| *repeats >= 1)?;
    Some((repeats, class))
}

/// What is probably wrong with a folder that has no usable subfolder.
fn explain(parent: &Path, option: &str, left_out: &[String]) -> DataFault {
    let (folder, option) = (parent.display().to_string(), option.to_owned());
    let images = images_in(parent).map(|images| images.len()).unwrap_or_default();
    if images > 0 {
        let name = parent.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return match (repeats_and_class(&name), parent.parent()) {
            (Some(_), Some(above)) => {
                let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
                DataFault::FolderOfImages { folder: parent.to_owned(), option, above: above.to_owned() }
            }
            _ => DataFault::ImagesBesideFolders { folder, option, images, name },
        };
    }
    match left_out.first() {
        Some(name) => DataFault::NoRepeats { folder, option, name: name.clone() },
        None => DataFault::EmptyFolder { folder, option },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn template() -> SubsetPlan {
        SubsetPlan::from_options(&Options::of(&[]))
    }

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            if name.ends_with(".png") {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            } else {
                std::fs::create_dir_all(path).unwrap();
            }
        }
        folder
    }

    fn error(folder: &Path) -> String {
        format!("{:#}", subsets(folder, "train_data_dir", &template()).unwrap_err())
    }

    #[test]
    fn names_give_repeats_and_class() {
        assert_eq!(repeats_and_class("10_empty"), Some((10, "empty")));
        assert_eq!(repeats_and_class("3_a photo_of"), Some((3, "a photo_of")));
        assert_eq!(repeats_and_class("7"), Some((7, "")));
        assert_eq!(repeats_and_class("0_none"), None);
        assert_eq!(repeats_and_class("-1_none"), None);
        assert_eq!(repeats_and_class("cats"), None);
        assert_eq!(repeats_and_class("x_10"), None);
    }

    #[test]
    fn subfolders_come_in_order_and_others_are_named() {
        let folder = folder_with(&["20_b", "10_a/1.png", "notes", "file.png"]);
        let (subsets, warnings) = subsets(folder.path(), "train_data_dir", &template()).unwrap();
        let found: Vec<_> = subsets.iter().map(|s| (s.repeats, s.class_tokens.as_deref().unwrap())).collect();
        assert_eq!(found, [(10, "a"), (20, "b")]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("notes"), "{warnings:?}");
    }

    #[test]
    fn wrong_layouts_are_explained() {
        let itself = folder_with(&["10_cat/1.png"]);
        let message = error(&itself.path().join("10_cat"));
        assert!(message.contains("folder above") && message.contains(&itself.path().display().to_string()), "{message}");

        let images = folder_with(&["1.png", "2.png"]);
        assert!(error(images.path()).contains("holds 2 images itself"), "{}", error(images.path()));

        let unnumbered = folder_with(&["cats/1.png"]);
        assert!(error(unnumbered.path()).contains("10_cats"), "{}", error(unnumbered.path()));

        assert!(error(folder_with(&[]).path()).contains("is empty"));
        assert!(error(Path::new("/nowhere/at/all")).contains("/nowhere/at/all"));
    }
}
