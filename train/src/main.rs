//! The `train` command.
#![allow(dead_code)]
mod data;
mod options;
mod seeds;

fn main() {}
