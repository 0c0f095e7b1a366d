//! (in preparation)
#![allow(missing_docs)]
use std::{sync::Arc, ops::ControlFlow, path::PathBuf};
pub struct Transfer<'a> { pub repository: &'a str, pub file: &'a str, pub done: u64, pub total: Option<u64> }
pub type Progress = Arc<dyn Fn(&Transfer<'_>) -> ControlFlow<()> + Send + Sync>;
pub struct HubOptions { pub revision: Option<String>, pub half: bool, pub progress: Option<Progress>, pub offline: bool }
impl HubOptions { pub fn from_env() -> Self { Self { revision: None, half: false, progress: None, offline: false } } }
pub fn resolve(model: &str, _o: &HubOptions) -> crate::Result<PathBuf> { let p = PathBuf::from(model); if p.exists() { Ok(p) } else { Err(crate::Error::argument("model", "missing")) } }
pub fn resolve_controlnet(model: &str, o: &HubOptions) -> crate::Result<PathBuf> { resolve(model, o) }
pub fn download(_r: &str, _f: &str, o: &HubOptions) -> crate::Result<PathBuf> { resolve("", o) }
