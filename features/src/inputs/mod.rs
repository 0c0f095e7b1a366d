//! Which images there are, and what each is called in the output.
//!
//! As the original: `--input_dir` is a glob pattern, `**` goes into all folders, hidden names are passed over unless the pattern spells
//! the dot, and the result is sorted as plain strings. Differences: a folder without a pattern means the images in it (the original
//! tries to open the folder as an image), folders that a pattern matches are passed over, and no match is an error (the original
//! loads its model, writes nothing and succeeds).

mod folder;
mod names;
mod prompts;
mod table;

use std::path::{Path, PathBuf};

use glob::MatchOptions;

pub use folder::{depends_on_folder, with_folder};
pub use names::{NameRule, Sample, name_samples};
pub use prompts::{Companions, Prompt, PromptSource};
pub use table::PromptTable;

use crate::fault::Fault;

/// Extensions of images, for folders given without a pattern.
const IMAGES: [&str; 9] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "jfif"];

/// The files that a pattern, a folder or a file name stands for, sorted as plain strings.
///
/// `subfolders` takes the images in the folder's immediate subfolders too, when it is a folder.
///
/// # Errors
/// When the pattern is malformed, a folder cannot be read, or nothing is found.
pub fn find_images(pattern: &str, subfolders: bool) -> Result<Vec<PathBuf>, Fault> {
    let place = Path::new(pattern);
    let mut found = if place.is_file() {
        vec![place.to_owned()]
    } else if place.is_dir() {
        images_in(place, usize::from(subfolders))?
    } else {
        matches(pattern)?
    };
    if found.is_empty() {
        let problem = match place.is_dir() {
            true => format!("{pattern}: no image in this folder (looked for *.{})", IMAGES.join(", *.")),
            false => format!("{pattern}: no file matches; put the pattern in quotes, so that the shell leaves it alone"),
        };
        return Err(Fault::failure(problem));
    }
    found.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    found.dedup();
    Ok(found)
}

fn images_in(folder: &Path, depth: usize) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: std::io::Error| Fault::failure(format!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_hidden {
            continue;
        }
        if depth > 0 && path.is_dir() {
            found.extend(images_in(&path, depth - 1)?);
        } else if is_image(&path) && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether a file's name says that it is an image.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| IMAGES.contains(&extension.as_str()))
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, Fault> {
    // The library's `**` at the end matches folders alone, Python's files as well.
    let whole = if pattern == "**" || pattern.ends_with("/**") { format!("{pattern}/*") } else { pattern.to_owned() };
    let options = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let found = glob::glob_with(&whole, options).map_err(|error| Fault::usage(format!("--input-dir: `{pattern}`: {error}")))?;
    // A folder that may not be read hides its images; that is an error, not a shorter list.
    let found = found.map(|path| path.map_err(|error| Fault::failure(error.to_string()))).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().filter(|path| !path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn found(folder: &tempfile::TempDir, pattern: &str) -> Vec<String> {
        let root = folder.path().to_str().unwrap();
        let pattern = if pattern.is_empty() { root.to_owned() } else { format!("{root}/{pattern}") };
        let paths = find_images(&pattern, false).unwrap();
        paths.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn patterns_as_in_python() {
        let folder = tree(&["b.png", "a.png", "a.txt", "x/c.png", "x/y/d.png", ".hidden/e.png", ".f.png", "B.png"]);
        assert_eq!(found(&folder, "*.png"), ["B.png", "a.png", "b.png"]);
        assert_eq!(found(&folder, "**/*.png"), ["B.png", "a.png", "b.png", "x/c.png", "x/y/d.png"]);
        assert_eq!(found(&folder, "x/**"), ["x/c.png", "x/y/d.png"]);
        assert_eq!(found(&folder, "[ab].png"), ["a.png", "b.png"]);
        assert_eq!(found(&folder, "a.png"), ["a.png"]);
        assert_eq!(found(&folder, "*"), ["B.png", "a.png", "a.txt", "b.png"]);
    }

    #[test]
    fn sorted_as_strings_not_by_folder() {
        // As strings '-' < '.' < '/', by components "a" < "a-b" < "a.b" whatever follows.
        let folder = tree(&["a/z.png", "a-b/z.png", "a.b/z.png"]);
        assert_eq!(found(&folder, "*/*.png"), ["a-b/z.png", "a.b/z.png", "a/z.png"]);
    }

    #[test]
    fn a_folder_stands_for_its_images() {
        let folder = tree(&["b.JPG", "a.png", "a.txt", "x/c.png"]);
        assert_eq!(found(&folder, ""), ["a.png", "b.JPG"]);
        let nested = find_images(folder.path().to_str().unwrap(), true).unwrap();
        assert_eq!(nested.len(), 3);
    }

    #[test]
    fn nothing_found_is_an_error() {
        let folder = tree(&["a.txt"]);
        let root = folder.path().to_str().unwrap();
        assert!(find_images(root, false).unwrap_err().to_string().contains("no image in this folder"));
        assert!(find_images(&format!("{root}/*.png"), false).unwrap_err().to_string().contains("no file matches"));
        assert!(find_images(&format!("{root}/***"), false).is_err());
    }

    #[test]
    fn a_name_with_brackets_is_itself_if_it_exists() {
        let folder = tree(&["img[1].png", "img1.png"]);
        assert_eq!(found(&folder, "img[1].png"), ["img[1].png"]);
    }
}
