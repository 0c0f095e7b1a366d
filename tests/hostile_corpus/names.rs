//! Names of files and folders: escapes, directions, what looks like an option, a pattern, a place elsewhere or a message.

use crate::case::{Case, Expected, extract, fixture, words};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

const GROUP: &str = "names";

fn names() -> Vec<Vec<u8>> {
    let texts = [
        "a\u{1b}[31mb",
        "\u{1b}]0;title\u{7}",
        "\u{202e}gnp.exe",
        "\u{9b}31m",
        "a\nerror: forged",
        "a\rb",
        "a\tb",
        "-rf",
        "--output_dir",
        "..",
        "",
        " ",
        "%s%n%x",
        "'; touch executed; '",
        "$(touch executed)",
        "[a-",
        "**",
        "{folder}",
        "con",
        "cafe\u{301}",
        "\u{feff}",
        "\u{2066}\u{2069}",
    ];
    let long = "a".repeat(240);
    let mut names: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).chain([long.into_bytes()]).collect();
    names.push(b"\xff\xfe".to_vec());
    names
}

fn named(name: &[u8], ending: &str) -> OsString {
    OsString::from_vec([name, ending.as_bytes()].concat())
}

fn picture(folder: &Path, name: OsString, good: bool) {
    std::fs::create_dir_all(folder).unwrap();
    if good {
        std::fs::copy(fixture("rgb.png"), folder.join(name)).unwrap();
    } else {
        std::fs::write(folder.join(name), "no image").unwrap();
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in names() {
        let shown = name.escape_ascii().to_string();
        let (one, two, three) = (name.clone(), name.clone(), name);
        cases.push(Case::new(GROUP, format!("an image {shown}"), Expected::Handled, move |folder| {
            let images = folder.join("images");
            picture(&images, named(&one, ".png"), true);
            extract(folder, testkit::miniature(), &images, &["--use-original-filename", "--sample-name-first"])
        }));
        cases.push(Case::new(GROUP, format!("no image {shown}"), Expected::Handled, move |folder| {
            let images = folder.join("images");
            picture(&images, named(&two, ".png"), false);
            picture(&images, "z.png".into(), true);
            extract(folder, testkit::miniature(), &images, &[])
        }));
        cases.push(Case::new(GROUP, format!("a concept {shown}"), Expected::Handled, move |folder| {
            picture(&folder.join("data/1_x"), named(&three, ".png"), true);
            picture(&folder.join("data").join(named(&[b"2_".as_slice(), &three].concat(), "")), "a.png".into(), false);
            let model = testkit::miniature().to_str().unwrap();
            words(&[
                "train",
                "check",
                "--pretrained_model_name_or_path",
                model,
                "--train_data_dir",
                "data",
                "--output_dir",
                "out",
            ])
        }));
    }
    cases
}
