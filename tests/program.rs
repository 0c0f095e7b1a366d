//! What every program has alike: this file is a test of each package that has one, and asks the same of all.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use testkit::{Program, message};

/// The binary of this package.
const BINARY: &str = match (option_env!("CARGO_BIN_EXE_train"), option_env!("CARGO_BIN_EXE_extract")) {
    (Some(path), _) | (None, Some(path)) => path,
    (None, None) => match (option_env!("CARGO_BIN_EXE_convert"), option_env!("CARGO_BIN_EXE_driftless")) {
        (Some(path), _) | (None, Some(path)) => path,
        (None, None) => panic!("a package whose tests include this file has one of the four binaries"),
    },
};

/// Its name.
fn name() -> &'static str {
    Path::new(BINARY).file_stem().unwrap().to_str().unwrap()
}

/// The commands that it holds: itself, or three subcommands.
fn commands() -> Vec<Vec<&'static str>> {
    match name() {
        "driftless" => vec![vec!["train"], vec!["extract"], vec!["convert"]],
        _ => vec![vec![]],
    }
}

fn run(arguments: &[&str]) -> Output {
    Program(BINARY).run(Path::new("."), arguments)
}

fn done(arguments: &[&str]) -> String {
    Program(BINARY).stdout(Path::new("."), arguments)
}

#[test]
fn the_version_is_printed_by_either_spelling() {
    for words in commands().into_iter().chain([vec![]]) {
        let called = [&[name()], words.as_slice()].concat().join(" ");
        for flag in ["--version", "-V"] {
            assert_eq!(done(&[&words[..], &[flag]].concat()), format!("{called} {}\n", env!("CARGO_PKG_VERSION")));
        }
    }
}

#[test]
fn messages_are_governed_by_the_same_flags_everywhere() {
    for words in commands() {
        let help = done(&[&words[..], &["--help"]].concat());
        for flag in ["-q, --quiet", "-v, --verbose", "--log-json"] {
            assert!(help.contains(flag), "{words:?} {flag}: {help}");
        }
    }
}

#[test]
fn wrong_usage_is_told_once_in_the_same_form() {
    for words in commands().into_iter().chain([vec![]]) {
        let wrong = run(&[&words[..], &["--no_such-option"]].concat());
        let told = message(&wrong);
        assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0), "{told}");
        assert!(told.starts_with("error: ") && told.matches("error:").count() == 1 && told.contains("such"), "{told}");
    }
    for words in commands() {
        let told = message(&run(&[&words[..], &["--no-such-one", "--nor_this=3", "4", "--quiet"]].concat()));
        assert!(told.contains("such") && told.contains("nor") && told.matches("error:").count() == 1, "{told}");
        for spelling in ["--log-json", "--log_json"] {
            let wrong = run(&[&words[..], &[spelling, "--no-such-option"]].concat());
            let line: serde_json::Value = serde_json::from_slice(&wrong.stderr).expect("one line of JSON");
            assert_eq!((wrong.status.code(), &line["level"]), (Some(2), &"error".into()), "{line}");
        }
        let both = run(&[&words[..], &["--quiet", "--verbose"]].concat());
        assert_eq!(both.status.code(), Some(2), "{}", message(&both));
    }
}

#[test]
fn every_command_has_a_manual_page_and_help_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("man1");
    done(&["man", "--dir", dir.to_str().unwrap()]);
    let pages: BTreeSet<String> = testkit::names(&dir).into_iter().collect();
    assert!(pages.contains(&format!("{}.1", name())) && pages.contains(&format!("{}-man.1", name())), "{pages:?}");
    for page in &pages {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(".TH ") && text.contains("Examples:"), "{page}: {text}");
    }
    for words in subcommands(&pages) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = done(&[&words[..], &["--help"]].concat());
        let end = help.rsplit("\n\n").next().unwrap();
        assert!(end.starts_with("Examples:\n  "), "{words:?}: {help}");
    }
    let printed = done(&["man"]);
    assert_eq!(printed.matches("\n.TH ").count() + usize::from(printed.starts_with(".TH ")), pages.len());
}

/// The words of each command that has a page: `convert-extract-lora.1` is `extract-lora` of `convert`.
fn subcommands(pages: &BTreeSet<String>) -> Vec<Vec<String>> {
    let words = |page: &String| {
        let rest = page.strip_suffix(".1").unwrap().strip_prefix(name()).unwrap();
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        match rest.split_once('-') {
            Some((first, rest)) if name() == "driftless" => vec![first.to_owned(), rest.to_owned()],
            _ if rest.is_empty() => vec![],
            _ => vec![rest.to_owned()],
        }
    };
    pages.iter().map(words).collect()
}

#[test]
fn completions_are_scripts_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = done(&["completions", shell]);
        for word in [name(), "log-json", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(&["completions", "dos"]).status.code(), Some(2));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, done(&["completions", "bash"])).unwrap();
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).output();
    // Where there is no bash there is nobody to read the script either.
    assert!(checked.is_err() || checked.is_ok_and(|output| output.status.success()));
}

#[cfg(unix)]
mod broken_outputs {
    use super::*;
    use std::fs::File;
    use std::process::Stdio;

    /// Commands that print, at once and much.
    fn printing() -> Vec<Vec<&'static str>> {
        let mut printing = vec![vec!["man"], vec!["--help"], vec!["--version"], vec!["completions", "zsh"]];
        for words in commands() {
            match [&[name()], words.as_slice()].concat().last() {
                Some(&"extract") => {
                    printing.extend([[&words[..], &["layers"]].concat(), [&words[..], &["layers", "--json"]].concat()])
                }
                Some(&"convert") => printing.push([&words[..], &["inspect", adapter(), "--json"]].concat()),
                _ => printing.push([&words[..], &["--help"]].concat()),
            }
        }
        printing
    }

    #[test]
    fn a_closed_pipe_ends_a_program_quietly() {
        for arguments in printing() {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = Program(BINARY).command(Path::new(".")).args(&arguments).stdout(writer).output().unwrap();
            assert_eq!((output.status.code(), message(&output).as_str()), (Some(0), ""), "{arguments:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_one_error() {
        let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
        for arguments in printing() {
            let output = Program(BINARY).command(Path::new(".")).args(&arguments).stdout(full()).output().unwrap();
            let told = message(&output);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
            assert!(told.starts_with("error: standard output: ") && told.lines().count() == 1, "{arguments:?}: {told}");
        }
        // Nobody hears an error then, but the status says so.
        let wrong = Program(BINARY).command(Path::new(".")).arg("--no-such-option").stderr(full()).output().unwrap();
        assert_eq!(wrong.status.code(), Some(2));
    }
}

fn adapter() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/adapters/kohya.safetensors")
}

/// `driftless convert` is `convert`, down to the byte; both are held to the same text, because neither test sees the other's binary.
#[test]
fn inspect_says_the_same_by_either_name() {
    for words in commands().iter().filter(|words| [&[name()], words.as_slice()].concat().last() == Some(&"convert")) {
        let said: serde_json::Value =
            serde_json::from_str(&done(&[&words[..], &["inspect", adapter(), "--json"]].concat())).unwrap();
        assert_eq!(
            (&said["kind"], &said["format"], &said["metadata"]["note"]),
            (&"adapter".into(), &"kohya".into(), &"kept".into())
        );
    }
}
