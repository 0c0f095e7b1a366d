//! A table of prompts: a CSV file with a header line, one row per image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driftless::formats::{FileKind, read_bounded};

use super::Sample;
use crate::fault::{Fault, InputFault};

/// Headings of the column that names images.
const IMAGE: [&str; 5] = ["image", "file_name", "filename", "file", "name"];
/// Headings of the column with the prompts; `file_name` and `text` are those of the hub's image folders.
const PROMPT: [&str; 3] = ["prompt", "text", "caption"];

/// Prompts by image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PromptTable {
    path: PathBuf,
    /// By what the image column has: a path, a file name, or a file name without its extension.
    prompts: BTreeMap<String, String>,
}

impl PromptTable {
    /// Reads a CSV file.
    ///
    /// # Errors
    /// When it cannot be read, lacks a column, or has two prompts for one image.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        // Its own error names the file.
        let text = read_bounded(path, FileKind::List).map_err(Fault::failure)?;
        Self::parse(path, &text).map_err(|fault| Fault::of_file(path, fault))
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, InputFault> {
        // Spreadsheets put a byte order mark in front.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rows = csv::Reader::from_reader(text);
        let headings = rows.headers()?.clone();
        let column = |names: &[&'static str]| {
            let found = headings.iter().position(|heading| names.contains(&heading.trim().to_ascii_lowercase().as_str()));
            found.ok_or(InputFault::NoColumn { expected: names[0] })
        };
        let (image, prompt) = (column(&IMAGE)?, column(&PROMPT)?);
        let mut prompts = BTreeMap::new();
        for row in rows.records() {
            let row = row?;
            // The reader refuses rows of another length than the first.
            let (Some(image), Some(prompt)) = (row.get(image), row.get(prompt)) else { continue };
            if prompts.insert(image.to_owned(), prompt.to_owned()).is_some() {
                return Err(InputFault::TwoPrompts { image: image.to_owned() });
            }
        }
        Ok(Self { path: path.to_owned(), prompts })
    }

    /// The prompt of an image: by its path as it was found, else by the end of it, else by its name without extension.
    pub fn prompt(&self, sample: &Sample) -> Option<&str> {
        let path = sample.path.to_str()?;
        let ends = path.match_indices(['/', '\\']).map(|(slash, _)| &path[slash + 1..]);
        let stem = sample.path.file_stem().and_then(|stem| stem.to_str());
        std::iter::once(path).chain(ends).chain(stem).find_map(|name| self.prompts.get(name)).map(String::as_str)
    }

    /// Fails for images that have none.
    ///
    /// # Errors
    /// Naming the first of them.
    pub fn check(&self, samples: &[Sample]) -> Result<(), Fault> {
        let missing: Vec<&Sample> = samples.iter().filter(|sample| self.prompt(sample).is_none()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let (count, all, first) = (missing.len(), samples.len(), first.path.clone());
        Err(Fault::of_file(&self.path, InputFault::Missing { missing: "row", count, all, first }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PromptTable, String> {
        PromptTable::parse(Path::new("table.csv"), text.as_bytes()).map_err(|problem| problem.to_string())
    }

    fn sample(path: &str) -> Sample {
        Sample { index: 0, number: 0, path: path.into(), name: "train0".to_owned() }
    }

    #[test]
    fn rows_by_path_name_and_stem() {
        let table = parse("\u{feff}id,File_Name,text\n1,b/x.png,\"a cat, \"\"sitting\"\"\"\n2,x.png,other\n3,y,\n").unwrap();
        assert_eq!(table.prompt(&sample("a/b/x.png")), Some("a cat, \"sitting\""));
        assert_eq!(table.prompt(&sample("a/c/x.png")), Some("other"));
        assert_eq!(table.prompt(&sample("y.jpg")), Some(""));
        let message = table.check(&[sample("y.jpg"), sample("z.jpg")]).unwrap_err().to_string();
        assert!(message.contains("1 of 2 images") && message.contains("z.jpg"), "{message}");
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(parse("a,b\n").unwrap_err().contains("`image`"));
        assert!(parse("image,x\n").unwrap_err().contains("`prompt`"));
        assert!(parse("image,prompt\na,b\na,c\n").unwrap_err().contains("two prompts for `a`"));
        assert!(parse("image,prompt\na\n").is_err());
        assert!(PromptTable::parse(Path::new("x"), b"image,prompt\na,\xff\n").is_err());
    }
}
