//! The `train` binary as a user meets it.
