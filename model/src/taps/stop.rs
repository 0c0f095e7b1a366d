//! How a forward pass ends before its end: `?` carries the stop from the tap that completed the plan to the UNet, which catches it.

use crate::Error;
use crate::error::InputError;

/// Why a pass stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Everything wanted is there; the rest of the pass would be computed for nobody.
    Complete,
    /// The pass failed.
    Failed(Error),
}

impl Stop {
    /// For passes whose plan keeps nothing and runs to the end ([`super::TapPlan::nothing`]), which nothing but an error stops.
    pub fn into_error(self) -> Error {
        match self {
            Self::Complete => InputError::EndedEarly.into(),
            Self::Failed(error) => error,
        }
    }

    /// What a pass that may stop returned: `None` where it stopped because everything wanted was there.
    pub fn catch<T>(pass: Result<T, Self>) -> crate::Result<Option<T>> {
        match pass {
            Ok(output) => Ok(Some(output)),
            Err(Self::Complete) => Ok(None),
            Err(Self::Failed(error)) => Err(error),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<InputError> for Stop {
    fn from(error: InputError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<candle_core::Error> for Stop {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(error.into())
    }
}
