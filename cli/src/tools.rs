//! What every program has besides its own commands: `completions SHELL` and `man`.

use crate::failure::Failure;
use crate::output;
use clap::{ArgMatches, Command, FromArgMatches, Subcommand};
use clap_complete::Shell;
use driftless::formats::write_atomically;
use std::path::{Path, PathBuf};

/// Commands that every program has; PROGRAM stands for its name.
#[derive(Debug, Subcommand)]
enum Tool {
    /// Print a script that completes this command in a shell
    #[command(after_help = "Examples:\n  PROGRAM completions bash > ~/.local/share/bash-completion/completions/PROGRAM\n  \
                            PROGRAM completions zsh > ~/.zfunc/_PROGRAM")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual pages of this command and its subcommands
    #[command(after_help = "Examples:\n  PROGRAM man | man -l -\n  PROGRAM man --dir ~/.local/share/man/man1")]
    Man {
        /// Write them into this folder instead, a file each
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Whether a first argument names a tool.
pub fn is_one(word: &str) -> bool {
    matches!(word, "completions" | "man")
}

/// The command with the tools as subcommands.
pub fn add(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let named = |tool: &Command| {
        let help = tool.get_after_help().map(|help| help.to_string().replace("PROGRAM", &name));
        tool.clone().after_help(help.unwrap_or_default())
    };
    let tools = Tool::augment_subcommands(Command::new("tools"));
    command.subcommands(tools.get_subcommands().map(named))
}

/// Runs the tool that `matches` names, of the program `name`, whose command is `whole`.
///
/// # Errors
/// For wrong usage, and when pages cannot be written.
pub fn run(mut whole: Command, name: &str, matches: &ArgMatches) -> Result<(), Failure> {
    let tool = Tool::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    match tool {
        Tool::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut whole, name, &mut script);
            output::print_as_it_is(&String::from_utf8_lossy(&script));
        }
        Tool::Man { dir } => {
            whole = whole.disable_help_subcommand(true);
            whole.build();
            let mut pages = Vec::new();
            collect(&whole, &mut pages).map_err(driftless::Error::io("manual page"))?;
            match dir {
                None => pages.iter().for_each(|(_, page)| output::print_as_it_is(&String::from_utf8_lossy(page))),
                Some(dir) => write(&pages, &dir)?,
            }
        }
    }
    Ok(())
}

/// The page of a command and those of its subcommands, by file name.
fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.push((page.get_filename(), text));
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| collect(command, pages))
}

fn write(pages: &[(String, Vec<u8>)], folder: &Path) -> Result<(), driftless::Error> {
    std::fs::create_dir_all(folder).map_err(driftless::Error::io(folder))?;
    pages.iter().try_for_each(|(name, page)| write_atomically(folder.join(name), |file| file.write_bytes(page)))
}
