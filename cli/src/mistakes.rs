//! Unknown options, all of them: clap stops at the first.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, Error};
use std::ffi::OsString;

/// What was understood of a command line, and what of it the command does not know.
pub struct Read {
    /// The arguments that are known, or what is wrong with those.
    pub matches: Result<ArgMatches, Error>,
    /// Unknown options and superfluous words, in order.
    pub unknown: Vec<Error>,
}

/// Reads a line as `command` would, leaving out what it does not know, each time with the words behind it, which are probably its values.
pub fn read(command: &Command, mut line: Vec<OsString>) -> Read {
    let mut unknown = Vec::new();
    loop {
        let matches = command.clone().try_get_matches_from(&line);
        match matches {
            Err(error) if error.kind() == ErrorKind::UnknownArgument => match without(&line, &error) {
                Some(rest) => {
                    unknown.push(error);
                    line = rest;
                }
                None => return Read { matches: Err(error), unknown },
            },
            matches => return Read { matches, unknown },
        }
    }
}

/// The line without the argument that the error names; `None` where it is not one of the line's words. Each time it is shorter.
fn without(line: &[OsString], error: &Error) -> Option<Vec<OsString>> {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_named = |word: &OsString| {
        let rest = word.to_str().and_then(|word| word.strip_prefix(named.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || named.starts_with("--") && rest.starts_with('='))
    };
    // The first word is the program.
    let at = 1 + line[1..].iter().position(is_named)?;
    let is_value = |word: &&OsString| !word.as_encoded_bytes().starts_with(b"-");
    let values = if named.starts_with('-') { line[at + 1..].iter().take_while(is_value).count() } else { 0 };
    Some([&line[..at], &line[at + 1 + values..]].concat())
}

/// Several errors as one text: what each says, and once, behind the last, how the command is used.
pub fn together(errors: &[Error]) -> String {
    let texts: Vec<String> = errors.iter().map(|error| error.render().to_string()).collect();
    let texts = texts.iter().map(|text| text.strip_prefix("error: ").unwrap_or(text).trim_end());
    let mut told: Vec<&str> = texts.collect();
    let count = told.len();
    for text in told.iter_mut().take(count.saturating_sub(1)) {
        // clap's own layout; what has no such end is told whole.
        *text = text.split("\n\nUsage:").next().unwrap_or(text);
    }
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        let number = Arg::new("number").long("number").value_parser(clap::value_parser!(u8));
        Command::new("x").arg(number).arg(Arg::new("output").long("output").required(true)).subcommand(Command::new("y"))
    }

    fn found(line: &str) -> (Vec<ErrorKind>, Option<ErrorKind>, String) {
        let Read { matches, unknown } = read(&command(), line.split(' ').map(OsString::from).collect());
        let kinds = unknown.iter().map(Error::kind).collect();
        (kinds, matches.err().map(|error| error.kind()), together(&unknown))
    }

    #[test]
    fn all_that_is_unknown_is_told() {
        use ErrorKind::UnknownArgument;
        let (unknown, known, text) = found("x --outptu a b --output c --numbre=3 --what --number 5");
        assert_eq!((unknown, known), (vec![UnknownArgument; 3], None));
        for part in ["--outptu", "--output", "--numbre", "--number", "--what"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("Usage:").count(), 1, "{text}");
        // What is known is still read, and what is wrong with it told too.
        assert_eq!(found("x --what 1 --output c --number z").1, Some(ErrorKind::ValueValidation));
        assert_eq!(found("x -w --output c").0, [UnknownArgument]);
        assert_eq!(found("x y z -w").0.len(), 2);
        assert_eq!(found("x --output c").0, []);
    }
}
