//! What can be wrong with the model that is to be trained.

use std::path::PathBuf;

use driftless::model_family::ModelFamily;

/// Why a model cannot be trained with the options given.
#[derive(Debug, thiserror::Error)]
pub enum ModelFault {
    #[error("{}: says that the model predicts the velocity; give --v_parameterization", config.display())]
    Velocity { config: PathBuf },
    #[error("{}: is a {family} model; give --v2", model.display())]
    IsV2 { model: PathBuf, family: &'static ModelFamily },
    #[error("--v2: {} is a {family} model", model.display())]
    IsNotV2 { model: PathBuf, family: &'static ModelFamily },
    #[error("--mixed_precision fp16 is not supported on this device, because small gradients vanish; use bf16")]
    Float16,
    #[error("{}: has no weights", folder.display())]
    NoWeights { folder: PathBuf },
}
