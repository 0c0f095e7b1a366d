//! Running a binary of the workspace as a user does.

use std::path::Path;
use std::process::{Command, Output};

/// A binary by its path: `Program(env!("CARGO_BIN_EXE_convert"))`.
#[derive(Clone, Copy)]
pub struct Program(pub &'static str);

impl Program {
    /// The command in a folder, with nothing from the environment that could lead to a hub.
    pub fn command(self, folder: &Path) -> Command {
        let mut command = Command::new(self.0);
        command.current_dir(folder).env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.join("no-hub"));
        command
    }

    /// Runs it to its end.
    pub fn run(self, folder: &Path, arguments: &[&str]) -> Output {
        self.command(folder).args(arguments).output().expect("the program starts")
    }

    /// Runs it and expects success; its standard output.
    #[track_caller]
    pub fn stdout(self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.run(folder, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", message(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// What a program said on standard error.
pub fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
