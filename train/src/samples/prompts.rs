//! The file of prompts for samples: lines of text with options behind two dashes, or TOML or JSON with kohya's keys.
//!
//! Mirrors `line_to_prompt_dict`, `load_prompts` and `sample_image_inference` of sd-scripts 48d368f. Deliberate difference: an option that
//! is not understood is reported, with its line; there it is dropped in silence.

use anyhow::{Context, Result};
use driftless::formats::{FileKind, read_text};
use serde::Deserialize;
use std::path::Path;

/// One image to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// What to show.
    pub prompt: String,
    /// What not to show.
    pub negative_prompt: String,
    /// Pixels, a multiple of 8.
    pub width: usize,
    /// Pixels, a multiple of 8.
    pub height: usize,
    /// Seed; a random one without.
    pub seed: Option<u64>,
    /// Guidance scale.
    pub scale: f64,
    /// Denoising steps, 1 to 1000.
    pub steps: usize,
    /// Sampler, when not the run's.
    pub sampler: Option<String>,
}

/// The same as TOML and JSON files have it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    prompt: String,
    negative_prompt: Option<String>,
    width: Option<usize>,
    height: Option<usize>,
    seed: Option<u64>,
    scale: Option<f64>,
    sample_steps: Option<usize>,
    sample_sampler: Option<String>,
}

/// What is wrong with a file of prompts; the file and line are named by the context that is added to it.
#[derive(Debug, thiserror::Error)]
enum PromptFault {
    #[error("`--{option}` has no value")]
    NoValue { option: String },
    #[error("`--{flag} {found}`: expected a number")]
    NotANumber { flag: String, found: String },
    #[error("`--cn`: control images are not supported in samples")]
    ControlImage,
    #[error("`--{flag}` is none of --n --w --h --d --l --s --ss")]
    UnknownOption { flag: String },
    #[error("a sample of {width}x{height} pixels is asked for; {MOST_SIDE} a side is the most")]
    TooLarge { width: usize, height: usize },
    #[error("a guidance scale of {0} is asked for; expected a finite number")]
    Scale(f64),
    #[error("there is no [prompt]")]
    NoPrompt,
    #[error("there is no [[prompt.subset]]")]
    NoSubset,
    #[error("[[prompt.subset]] is not a list")]
    NotAList,
}

/// The longest side of a sample: what is drawn beside training must not take the memory that training needs.
const MOST_SIDE: usize = 2048;

/// The prompts in the file at `path`.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read(path: &Path) -> Result<Vec<Prompt>> {
    let named = || format!("--sample_prompts {}", path.display());
    let text = read_text(path, FileKind::List).with_context(named)?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let written = match extension.as_str() {
        "toml" => from_toml(&text).with_context(named)?,
        "json" => serde_json::from_str(&text).with_context(named)?,
        _ => from_lines(&text).with_context(named)?,
    };
    let prompts: Vec<Prompt> = written.into_iter().map(Written::settled).collect();
    prompts.iter().try_for_each(Prompt::check).with_context(named)?;
    Ok(prompts)
}

impl Prompt {
    fn check(&self) -> Result<(), PromptFault> {
        let Self { width, height, scale, .. } = *self;
        if width.max(height) > MOST_SIDE {
            return Err(PromptFault::TooLarge { width, height });
        }
        if scale.is_finite() { Ok(()) } else { Err(PromptFault::Scale(scale)) }
    }
}

impl Written {
    fn settled(self) -> Prompt {
        let side = |pixels: Option<usize>| {
            let pixels = pixels.unwrap_or(512);
            (pixels - pixels % 8).max(64)
        };
        Prompt {
            prompt: self.prompt,
            negative_prompt: self.negative_prompt.unwrap_or_default(),
            width: side(self.width),
            height: side(self.height),
            seed: self.seed,
            scale: self.scale.unwrap_or(7.5),
            steps: self.sample_steps.unwrap_or(30).clamp(1, 1000),
            sampler: self.sample_sampler,
        }
    }
}

fn from_lines(text: &str) -> Result<Vec<Written>> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    let prompts = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    prompts.map(|(number, line)| from_line(line).with_context(|| format!("line {number}"))).collect()
}

fn from_line(line: &str) -> Result<Written, PromptFault> {
    let mut parts = line.split(" --");
    let mut written = Written { prompt: parts.next().unwrap_or_default().trim().to_owned(), ..Written::default() };
    for part in parts {
        let (flag, value) = part.trim().split_once(' ').ok_or_else(|| PromptFault::NoValue { option: part.to_owned() })?;
        let value = value.trim();
        let wrong = || PromptFault::NotANumber { flag: flag.to_owned(), found: value.to_owned() };
        match flag.to_ascii_lowercase().as_str() {
            "n" => written.negative_prompt = Some(value.to_owned()),
            "w" => written.width = Some(value.parse().map_err(|_| wrong())?),
            "h" => written.height = Some(value.parse().map_err(|_| wrong())?),
            "d" => written.seed = Some(value.parse().map_err(|_| wrong())?),
            "l" => written.scale = Some(value.parse().map_err(|_| wrong())?),
            "s" => written.sample_steps = Some(value.parse().map_err(|_| wrong())?),
            "ss" => written.sample_sampler = Some(value.to_owned()),
            "cn" => return Err(PromptFault::ControlImage),
            _ => return Err(PromptFault::UnknownOption { flag: flag.to_owned() }),
        }
    }
    Ok(written)
}

/// `[prompt]` with settings for all, and `[[prompt.subset]]`.
fn from_toml(text: &str) -> Result<Vec<Written>> {
    let root: toml::Table = text.parse()?;
    let mut common = root.get("prompt").and_then(toml::Value::as_table).cloned().ok_or(PromptFault::NoPrompt)?;
    let subsets = common.remove("subset").ok_or(PromptFault::NoSubset)?;
    let subsets = subsets.as_array().ok_or(PromptFault::NotAList)?;
    if subsets.is_empty() {
        return Err(PromptFault::NoSubset.into());
    }
    let merged = subsets.iter().map(|subset| {
        let mut merged = common.clone();
        merged.extend(subset.as_table().cloned().unwrap_or_default());
        Ok(toml::Value::Table(merged).try_into()?)
    });
    merged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(extension: &str, text: &str) -> Result<Vec<Prompt>> {
        let file = tempfile::Builder::new().suffix(extension).tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn lines_with_flags() {
        let prompts = read_as(
            ".txt",
            "# comment\n\na street, night --n low quality, blurry --w 515 --H 32 --d 7 --l 5.5 --s 2000 --ss euler_a\n  a -- dash-ed --n x\n",
        )
        .unwrap_err();
        assert!(format!("{prompts:#}").contains("line 4"), "{prompts:#}");
        let prompts =
            read_as(".txt", "# c\n\na street --n low, blurry --w 515 --H 32 --d 7 --l 5.5 --s 2000 --ss euler_a\n just this \n");
        let prompts = prompts.unwrap();
        let expected = Prompt {
            prompt: "a street".into(),
            negative_prompt: "low, blurry".into(),
            width: 512,
            height: 64,
            seed: Some(7),
            scale: 5.5,
            steps: 1000,
            sampler: Some("euler_a".into()),
        };
        assert_eq!(prompts[0], expected);
        assert_eq!(
            (prompts[1].prompt.as_str(), prompts[1].width, prompts[1].steps, prompts[1].scale),
            ("just this", 512, 30, 7.5)
        );
        assert_eq!(prompts.len(), 2);
    }

    #[test]
    fn toml_and_json() {
        let toml = "[prompt]\nwidth = 256\nscale = 3\n[[prompt.subset]]\nprompt = \"a\"\n[[prompt.subset]]\nprompt = \"b\"\nwidth = 128\nseed = 1\n";
        let prompts = read_as(".toml", toml).unwrap();
        assert_eq!((prompts[0].width, prompts[1].width, prompts[1].seed, prompts[1].scale), (256, 128, Some(1), 3.0));
        let prompts = read_as(".json", r#"[{"prompt": "a", "sample_steps": 5, "height": 100}]"#).unwrap();
        assert_eq!((prompts[0].steps, prompts[0].height), (5, 96));
    }

    #[test]
    fn mistakes_are_named() {
        for (extension, text, expected) in [
            (".txt", "a --x 3", "--x"),
            (".txt", "a --w wide", "--w wide"),
            (".txt", "a --cn b.png", "control"),
            (".txt", "a --w 1000000000", "2048 a side"),
            (".txt", "a --l nan", "guidance"),
            (".toml", "[prompt]\nprompt = \"a\"", "subset"),
            (".json", r#"[{"promt": "a"}]"#, "promt"),
        ] {
            let message = format!("{:#}", read_as(extension, text).unwrap_err());
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert!(format!("{:#}", read(Path::new("/nowhere.txt")).unwrap_err()).contains("/nowhere.txt"));
    }
}
