//! In what two manifests differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ImageRecord, Manifest, Options};
use crate::options::{RUN_OPTIONS, RunIdentity};

/// Differences that are shown; of more there is the number.
const SHOWN: usize = 8;
/// Letters of a value that are shown.
const LONGEST: usize = 60;

/// What differs.
#[derive(Debug, Default)]
pub struct Differences {
    /// Settings that hold for all sets.
    pub run: Vec<String>,
    /// Settings of sets, by their names.
    pub sets: BTreeMap<String, Vec<String>>,
    /// Images.
    pub images: Vec<String>,
    /// What moves features by rounding alone.
    pub rounding: Vec<String>,
}

impl Differences {
    /// From what is there to what is now. `is_made` says of an image's name whether it has any features.
    pub fn between(there: &Manifest, now: &Manifest, is_made: &dyn Fn(&str) -> bool) -> Self {
        let mut differences = Self::default();
        for option in RUN_OPTIONS {
            let name = option.key.unwrap_or(option.flag.name);
            let found = || differing(name, there.run.get(name), now.run.get(name));
            match option.identity {
                RunIdentity::Fixed(_) | RunIdentity::FixedIf(_) => differences.run.extend(found()),
                RunIdentity::MayChange(_) => differences.rounding.extend(found()),
                RunIdentity::Within(_) | RunIdentity::Irrelevant => {}
            }
        }
        for (name, set) in &now.sets {
            let Some(before) = there.sets.get(name) else { continue };
            let found = of_options(&place(name), before, set);
            if !found.is_empty() {
                differences.sets.insert(name.clone(), found);
            }
        }
        let before: BTreeMap<&str, &ImageRecord> = there.images.iter().map(|image| (image.name.as_str(), image)).collect();
        for image in &now.images {
            if let Some(before) = before.get(image.name.as_str()) {
                differences.images.extend(of_image(before, image, is_made));
            }
        }
        differences
    }

    /// Whether files of one would stand beside files of the other.
    pub fn is_other_run(&self) -> bool {
        !self.run.is_empty() || !self.sets.is_empty() || !self.images.is_empty()
    }

    /// The first of them, a line each.
    pub fn lines(&self) -> String {
        let all: Vec<&String> = self.run.iter().chain(self.sets.values().flatten()).chain(&self.images).collect();
        let mut lines: Vec<String> = all.iter().take(SHOWN).map(|line| format!("\n  {line}")).collect();
        if let Some(more @ 1..) = all.len().checked_sub(SHOWN) {
            lines.push(format!("\n  and {more} more"));
        }
        lines.concat()
    }
}

fn place(set: &str) -> String {
    if set.is_empty() { String::new() } else { format!("set `{set}`: ") }
}

fn of_options(place: &str, there: &Options, now: &Options) -> Vec<String> {
    let names: BTreeSet<&String> = there.keys().chain(now.keys()).collect();
    let found = names.into_iter().flat_map(|name| differing(name, there.get(name), now.get(name)));
    found.map(|line| format!("{place}{line}")).collect()
}

/// The differences of one option; of hashes of several files those that differ.
fn differing(name: &str, there: Option<&Value>, now: Option<&Value>) -> Vec<String> {
    match (there, now) {
        (there, now) if there == now => Vec::new(),
        (Some(Value::Object(there)), Some(Value::Object(now))) => {
            let keys: BTreeSet<&String> = there.keys().chain(now.keys()).collect();
            keys.into_iter().flat_map(|key| differing(&format!("{name}: {key}"), there.get(key), now.get(key))).collect()
        }
        (Some(Value::Array(there)), Some(Value::Array(now))) => vec![of_lists(name, there, now)],
        (Some(there), Some(now)) if is_hash(there) && is_hash(now) => vec![format!("{name} has other contents")],
        (there, now) => {
            let [there, now] = [there, now].map(|value| value.map_or_else(|| "not given".to_owned(), shown));
            vec![format!("{name} was {there}, is {now}")]
        }
    }
}

fn of_lists(name: &str, there: &[Value], now: &[Value]) -> String {
    if let ([there], [now]) = (there, now)
        && let [line] = &differing(name, Some(there), Some(now))[..]
    {
        return line.clone();
    }
    let only = |these: &[Value], those: &[Value]| {
        let missing: Vec<String> = these.iter().filter(|value| !those.contains(value)).map(shown).collect();
        match &missing[..] {
            [] => None,
            [one] => Some(one.clone()),
            [first, rest @ ..] => Some(format!("{first} and {} more", rest.len())),
        }
    };
    match (only(there, now), only(now, there)) {
        (Some(gone), Some(new)) => format!("{name}: without {gone}, with {new}"),
        (Some(gone), None) => format!("{name}: without {gone}"),
        (None, Some(new)) => format!("{name}: with {new}"),
        (None, None) => format!("{name}: in another order"),
    }
}

fn of_image(there: &ImageRecord, now: &ImageRecord, is_made: &dyn Fn(&str) -> bool) -> Vec<String> {
    let name = &now.name;
    if !now.is_file_of(there) {
        return vec![format!("`{name}` was {}, is {}", there.path, now.path)];
    }
    let mut found = Vec::new();
    if now.holds_other_contents(there) {
        found.push(match now.bytes == there.bytes {
            true => format!("{} has other contents than when its features were made", now.path),
            false => format!("{} had {} bytes when its features were made, has {}", now.path, there.bytes, now.bytes),
        });
    }
    for (set, prompt) in &now.prompts {
        if there.prompts.get(set).is_some_and(|before| before != prompt) {
            found.push(format!("{}the prompt of {} is another", place(set), now.path));
        }
    }
    for (set, adapters) in &now.adapters {
        if there.adapters.get(set).is_some_and(|before| before != adapters) {
            found.push(format!("{}the adapters of {} have other contents", place(set), now.path));
        }
    }
    for (kind, image) in &now.conditions {
        if there.conditions.get(kind).is_some_and(|before| !before.contents.holds_the_same(&image.contents)) {
            found.push(format!("the {kind} image of {} has other contents", now.path));
        }
    }
    // What has no features yet is made with what is there now.
    if found.is_empty() || is_made(name) { found } else { Vec::new() }
}

fn is_hash(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "not given".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileRecord;
    use super::*;
    use serde_json::json;

    #[test]
    fn values_hashes_and_lists() {
        let lines = |there: Value, now: Value| differing("x", Some(&there), Some(&now)).join("; ");
        let hash = |letter: &str| letter.repeat(64);
        assert_eq!(lines(json!(50), json!(51)), "x was 50, is 51");
        assert_eq!(lines(json!(null), json!("a")), "x was not given, is `a`");
        assert_eq!(
            lines(json!({ "a": hash("a"), "b": hash("b") }), json!({ "a": hash("a"), "b": hash("c") })),
            "x: b has other contents"
        );
        assert_eq!(lines(json!(["a", "b"]), json!(["b", "c", "d"])), "x: without `a`, with `c` and 1 more");
        assert_eq!(lines(json!(["a", "b"]), json!(["b", "a"])), "x: in another order");
        let adapter = |scale: f64, letter: &str| json!([{ "scale": scale, "contents": hash(letter) }]);
        assert_eq!(lines(adapter(1.0, "a"), adapter(1.0, "b")), "x: contents has other contents");
        assert_eq!(lines(adapter(1.0, "a"), adapter(0.5, "a")), "x: scale was 1.0, is 0.5");
        assert_eq!(differing("x", Some(&json!(1)), Some(&json!(1))).len(), 0);
    }

    #[test]
    fn images_by_file() {
        let image = |path: &str, bytes: u64, modified: &str| ImageRecord {
            name: "train0".to_owned(),
            path: path.to_owned(),
            bytes,
            modified: modified.to_owned(),
            ..ImageRecord::default()
        };
        let before = image("/a/x.png", 10, "5");
        let found = |now: &ImageRecord, made: bool| of_image(&before, now, &|_| made).len();
        assert_eq!(found(&before.clone(), true), 0);
        // Moved with its time, renamed, exchanged, mended.
        assert_eq!(found(&image("/b/x.png", 10, "5"), true), 0);
        assert_eq!(found(&image("/b/x.png", 10, "6"), false), 1);
        assert_eq!(found(&image("/a/y.png", 10, "5"), false), 1);
        assert_eq!((found(&image("/a/x.png", 11, "6"), true), found(&image("/a/x.png", 11, "6"), false)), (1, 0));
        // Where contents are known they decide, whatever size and time say.
        let holding = |record: ImageRecord, letter: &str| ImageRecord { contents: Some(FileRecord::holding(letter)), ..record };
        let before = holding(before, "a");
        let found = |now: &ImageRecord| of_image(&before, now, &|_| true).join("; ");
        assert_eq!(found(&holding(image("/a/x.png", 10, "7"), "a")), "");
        assert_eq!(found(&holding(image("/b/x.png", 10, "7"), "a")), "");
        assert_eq!(
            found(&holding(image("/a/x.png", 10, "5"), "b")),
            "/a/x.png has other contents than when its features were made"
        );
        assert_eq!(found(&holding(image("/b/x.png", 10, "5"), "b")), "`train0` was /a/x.png, is /b/x.png");
    }
}
