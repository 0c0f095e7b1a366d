//! What the same weight is called in different files: LDM's and diffusers' names, and older spellings of the latter.
//!
//! Everything in here works on names alone; no tensor is touched. The common name of a layer is its diffusers or transformers
//! module path (`down_blocks.0.resnets.1.conv1`, `text_model.encoder.layers.3.mlp.fc2`). Tables are one to one, do not know
//! widths and take any number of levels, so miniature models map as full-size ones do.

pub mod ldm;
pub mod open_clip;
pub mod text_encoder;
pub mod vae_attention;
