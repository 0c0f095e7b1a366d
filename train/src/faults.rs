//! Faults that are reported together, so that a run that cannot start is mended in one go.

use anyhow::{Error, Result};

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Faults(Vec<Error>);

/// All faults, one per line.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Together(Vec<Error>);

fn lines(faults: &[Error]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| driftless_cli::failure::sentence(fault.as_ref())).collect();
    lines.join("\n")
}

impl Faults {
    /// Adds a fault, or several that were found together.
    pub fn push(&mut self, fault: impl Into<Error>) {
        match fault.into().downcast::<Together>() {
            Ok(Together(faults)) => self.0.extend(faults),
            Err(fault) => self.0.push(fault),
        }
    }

    /// The value, or `None` after adding the fault.
    pub fn keep<T>(&mut self, result: Result<T, impl Into<Error>>) -> Option<T> {
        result.map_err(|fault| self.push(fault)).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Succeeds when there are none.
    ///
    /// # Errors
    /// All of them, as [`Together`].
    pub fn check(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Together(self.0).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn faults_are_told_together_and_each_once() {
        let mut inner = Faults::default();
        assert_eq!(inner.keep(Ok::<_, Error>(1)), Some(1));
        inner.push(anyhow!("a"));
        inner.push(anyhow!("why").context("b"));
        let mut faults = Faults::default();
        faults.push(inner.check().unwrap_err());
        assert_eq!(faults.keep(Err::<(), _>(anyhow!("c"))), None);
        assert_eq!(faults.check().unwrap_err().to_string(), "a\nb: why\nc");
        assert!(Faults::default().check().context("nothing").is_ok());
    }
}
