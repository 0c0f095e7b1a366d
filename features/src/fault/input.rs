//! What can be wrong with the images of a run, and with what goes with them.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::path::PathBuf;

use super::FaultCause;

/// What is wrong with an input, its prompt or its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputFault {
    #[error("its folder has no name to put in place of {placeholder}")]
    NoFolderName { placeholder: &'static str },
    #[error("{cause}; give the prompt with --prompt TEXT, or its file with --prompt-file FILE")]
    PromptFile { cause: Box<FaultCause> },
    #[error("the prompt is not UTF-8 text")]
    PromptNotUtf8,
    #[error("no {missing} for {}", image.display())]
    NoPrompt { missing: &'static str, image: PathBuf },
    #[error("{} and {} belong to the same image", files[0].display(), files[1].display())]
    SameImage { files: [PathBuf; 2] },
    /// A folder or table that lacks something for `count` of `all` images.
    #[error("{count} of {all} images have no {missing} here, the first is {}", first.display())]
    Missing { missing: &'static str, count: usize, all: usize, first: PathBuf },
    #[error("has no column `{expected}`; its first line has to name the columns")]
    NoColumn { expected: &'static str },
    #[error("has two prompts for `{image}`")]
    TwoPrompts { image: String },
    #[error("no image in this folder (looked for *.{})", looked_for.join(", *."))]
    NoImage { looked_for: &'static [&'static str] },
    #[error("--input-dir: no image in these folders")]
    NoImages,
    /// `notes` say what was passed over.
    #[error("no file matches{}", notes.iter().map(|note| format!("; {note}")).collect::<String>())]
    NoMatch { notes: Vec<String> },
    #[error("`**` has to stand alone between slashes")]
    Recursive,
    #[error(transparent)]
    Pattern(#[from] globset::Error),
    #[error("wildcards stand in a name that is not valid Unicode")]
    WildNotUtf8,
    #[error("without its extension the name is `{stem}`, which no file can have; rename the file")]
    Dots { stem: String },
    #[error("{} and {} would both be written as `{name}`; {advice}", files[0].display(), files[1].display())]
    SameName { files: [PathBuf; 2], name: String, advice: &'static str },
    #[error("the name is not valid Unicode; rename the file")]
    NameNotUnicode,
    #[error(transparent)]
    Csv(#[from] csv::Error),
}
