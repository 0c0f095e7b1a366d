//! Which images there are, and what each is called in the output.
//!
//! As the original: `--input_dir` is a glob pattern, `**` goes into all folders, hidden names are passed over unless the pattern spells
//! the dot, and the result is sorted as plain strings. Differences: a folder without a pattern means the images in it (the original
//! tries to open the folder as an image), folders that a pattern matches are passed over, and so are files whose names are not
//! those of images where other files are images; several patterns, or the files that a shell made of one, are one list; no match is an error (the original
//! loads its model, writes nothing and succeeds).

mod folder;
mod names;
mod pattern;
mod prompts;
mod table;

use std::path::{Path, PathBuf};

pub use folder::{depends_on_folder, with_folder};
pub use names::{NameRule, Sample, name_samples};
pub use prompts::{Companions, Prompt, PromptSource};
pub use table::PromptTable;

use crate::fault::{Fault, InputFault};

/// Extensions of images, for folders given without a pattern.
static IMAGES: [&str; 9] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "jfif"];

/// The images that were found.
#[derive(Debug, Default)]
pub struct Found {
    /// Their files, sorted as plain strings.
    pub paths: Vec<PathBuf>,
    /// What was passed over, for the user.
    pub notes: Vec<String>,
}

/// The files that patterns, folders or file names stand for together.
///
/// `subfolders` takes the images in a folder's immediate subfolders too. Folders beside files, as a shell makes of `photos/*`, are passed
/// over.
///
/// # Errors
/// When a pattern is malformed, a folder cannot be read, or nothing is found.
pub fn find_images(patterns: &[PathBuf], subfolders: bool) -> Result<Found, Fault> {
    let mut found = Found::default();
    let beside_files = patterns.iter().any(|pattern| pattern.is_file());
    for pattern in patterns {
        let before = found.paths.len();
        if pattern.is_file() {
            found.paths.push(pattern.clone());
        } else if pattern.is_dir() && beside_files {
            continue;
        } else if pattern.is_dir() {
            found.paths.extend(images_in(pattern, usize::from(subfolders))?);
            if found.paths.len() == before && patterns.len() == 1 {
                return Err(Fault::of_file(pattern, InputFault::NoImage { looked_for: &IMAGES }));
            }
        } else {
            found.add_matches(pattern)?;
            if found.paths.len() == before {
                return Err(Fault::of_file(pattern, InputFault::NoMatch { notes: found.notes }));
            }
        }
    }
    if found.paths.is_empty() {
        return Err(Fault::failure(InputFault::NoImages));
    }
    let is_one_file = patterns.len() == 1 && patterns[0].is_file();
    if !is_one_file {
        found.pass_over_others();
    }
    found.paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    found.paths.dedup();
    Ok(found)
}

impl Found {
    fn add_matches(&mut self, pattern: &Path) -> Result<(), Fault> {
        let matches = pattern::matches(pattern)
            .map_err(|fault| Fault::usage(fault).of(&format!("--input-dir: `{}`: ", pattern.display())))?;
        self.notes.extend(matches.unreadable.into_iter().map(|problem| format!("{problem}; its images are left out")));
        for path in matches.paths.into_iter().filter(|path| !path.is_dir()) {
            // Opening a pipe would wait for somebody to write into it.
            match path.is_file() {
                true => self.paths.push(path),
                false => self.notes.push(format!("{}: is no regular file and passed over", path.display())),
            }
        }
        Ok(())
    }

    /// Leaves out files whose names are not those of images, unless that would leave nothing.
    fn pass_over_others(&mut self) {
        let (images, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.paths).into_iter().partition(|path| is_image(path));
        match (images.is_empty(), others.first()) {
            (true, _) => self.paths = others,
            (false, Some(first)) => {
                let files = match others.len() {
                    1 => "1 file that is no image by its name is".to_owned(),
                    count => format!("{count} files that are no images by their names are"),
                };
                self.notes.push(format!("{files} passed over, the first is {}", first.display()));
                self.paths = images;
            }
            (false, None) => self.paths = images,
        }
    }
}

fn images_in(folder: &Path, depth: usize) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: std::io::Error| Fault::of_file(folder, error);
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

    fn find(pattern: &str, subfolders: bool) -> Result<Vec<PathBuf>, Fault> {
        find_images(&[PathBuf::from(pattern)], subfolders).map(|found| found.paths)
    }

    fn found(folder: &tempfile::TempDir, pattern: &str) -> Vec<String> {
        let root = folder.path().to_str().unwrap();
        let pattern = if pattern.is_empty() { root.to_owned() } else { format!("{root}/{pattern}") };
        let paths = find(&pattern, false).unwrap();
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
        // The issue that asked for it: what is no image by its name is passed over.
        assert_eq!(found(&folder, "*"), ["B.png", "a.png", "b.png"]);
        assert_eq!(found(&folder, "*.txt"), ["a.txt"]);
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
        let nested = find(folder.path().to_str().unwrap(), true).unwrap();
        assert_eq!(nested.len(), 3);
    }

    #[test]
    fn nothing_found_is_an_error() {
        let folder = tree(&["a.txt"]);
        let root = folder.path().to_str().unwrap();
        assert!(find(root, false).unwrap_err().to_string().contains("no image in this folder"));
        assert!(find(&format!("{root}/*.png"), false).unwrap_err().to_string().contains("no file matches"));
        assert!(find(&format!("{root}/***"), false).is_err());
    }

    #[test]
    fn a_name_with_brackets_is_itself_if_it_exists() {
        let folder = tree(&["img[1].png", "img1.png"]);
        assert_eq!(found(&folder, "img[1].png"), ["img[1].png"]);
    }

    #[test]
    fn what_a_shell_made_of_a_pattern() {
        let folder = tree(&["b.png", "a.png", "a.txt", "x/c.png"]);
        let listed = ["a.png", "a.txt", "b.png", "x"].map(|name| folder.path().join(name));
        let found = find_images(&listed, false).unwrap();
        assert_eq!(found.paths, [listed[0].clone(), listed[2].clone()]);
        assert!(found.notes[0].contains("1 file") && found.notes[0].contains("a.txt"), "{:?}", found.notes);
        let pattern = find_images(&[folder.path().join("*")], false).unwrap();
        assert_eq!(pattern.paths, found.paths);
        let folders = find_images(&[folder.path().join("x"), folder.path().to_owned()], false).unwrap();
        assert_eq!(folders.paths.len(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_passed_over() {
        let folder = tree(&["a.png"]);
        let pipe = std::process::Command::new("mkfifo").arg(folder.path().join("b.png")).status();
        assert!(pipe.unwrap().success());
        let found = find_images(&[folder.path().join("*")], false).unwrap();
        assert!(found.paths.len() == 1 && found.notes[0].contains("no regular file"), "{found:?}");
    }

    /// One folder that may not be read does not end a run over all others.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_may_not_be_read_is_noted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tree(&["a/x.png", "b/y.png"]);
        let closed = folder.path().join("b");
        let permit = |mode| std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(mode)).unwrap();
        permit(0o000);
        // The superuser may read it all the same.
        let may_read = std::fs::read_dir(&closed).is_ok();
        let found = find_images(&[folder.path().join("**/*.png")], false).unwrap();
        permit(0o700);
        assert_eq!((found.paths.len(), found.notes.len()), if may_read { (2, 0) } else { (1, 1) }, "{found:?}");
    }
}
