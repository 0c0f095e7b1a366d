//! Long options are accepted with dashes or underscores: `--img-size`, `--img_size`.

use std::ffi::OsString;

/// Turns the underscores of long options' names into dashes; values, and what stands behind `--`, stay as they are.
pub fn with_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut options_ended = false;
    let respell = |argument: OsString| {
        let Some(text) = argument.to_str() else { return argument };
        options_ended |= text == "--";
        if options_ended || !text.starts_with("--") {
            return argument;
        }
        match text.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
            None => text.replace('_', "-").into(),
        }
    };
    arguments.into_iter().map(respell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_in_names_become_dashes_and_values_stay() {
        let typed = ["convert", "diffusers", "a_b", "--allow_unknown", "--text_encoder=base", "--output=x_y", "--", "--a_b"];
        let read = with_dashes(typed.iter().map(OsString::from));
        assert_eq!(
            read,
            ["convert", "diffusers", "a_b", "--allow-unknown", "--text-encoder=base", "--output=x_y", "--", "--a_b"]
        );
    }
}
