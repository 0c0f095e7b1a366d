//! kohya's options that this program knows and does not have, so that an existing command or TOML runs and says what it left out.
//!
//! Names from sd-scripts 48d368f (`train_network.py`'s parser) and from the TOML that the kohya_ss interface writes.

/// How many values follow the option's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// None: it is a switch.
    Switch,
    /// Exactly one.
    One,
    /// Any number, up to the next option.
    Many,
}

/// What happens to a run that asks for the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It would not change the result; the user is informed.
    Needless(&'static str),
    /// The run continues without it, with a warning.
    LeftOut(&'static str),
    /// With this value it asks for what is done anyway; with another it is left out, with a warning.
    DoneAs(&'static str, &'static str),
    /// Without it something else would be trained than was asked for.
    Refused(&'static str),
}

/// An option of kohya's that this program does not have.
#[derive(Debug, Clone, Copy)]
pub struct Foreign {
    /// Name with underscores.
    pub name: &'static str,
    /// Values that follow it.
    pub arity: Arity,
    /// What a run does about it.
    pub treatment: Treatment,
}

/// The option of this name (with underscores), when it is one of kohya's that this program does not have.
pub fn find(name: &str) -> Option<&'static Foreign> {
    TABLE.iter().find(|foreign| foreign.name == name)
}

/// All of them.
pub fn all() -> &'static [Foreign] {
    TABLE
}

const fn entry(name: &'static str, arity: Arity, treatment: Treatment) -> Foreign {
    Foreign { name, arity, treatment }
}

use Arity::{Many, One, Switch};
use Treatment::{DoneAs, LeftOut, Needless, Refused};

const OUR_ATTENTION: Treatment = Needless("attention is always computed in a memory-saving way");
const OUR_LOADER: Treatment = Needless("images are loaded in the background without workers of their own");
const ONE_MACHINE: Treatment = Needless("training runs on one device");
const NO_UPLOAD: Treatment = LeftOut("nothing is uploaded");
const NO_TRACKER: Treatment = LeftOut("logs go to TensorBoard and metrics.jsonl only");
const OTHER_MODEL: Treatment = LeftOut("it belongs to models other than Stable Diffusion 1 and 2");
const FLOAT32_ADAPTER: Treatment = LeftOut("adapters, gradients and optimizer stay float32");
const OWN_LOG: Treatment = Needless("messages are governed by --quiet, --verbose and --log_json");
const NO_MASKS: Treatment = Refused("the loss counts every pixel alike; cut the images to what they shall teach");
const RENUMBER: Treatment = Refused("to go on from a state use --resume, which restores epoch and step");

const TABLE: &[Foreign] = &[
    // Logging of kohya's own.
    entry("console_log_level", One, OWN_LOG),
    entry("console_log_file", One, OWN_LOG),
    entry("console_log_simple", Switch, OWN_LOG),
    entry("log_with", One, DoneAs("tensorboard", "logs go to TensorBoard and metrics.jsonl only")),
    entry("log_tracker_name", One, NO_TRACKER),
    entry("log_tracker_config", One, NO_TRACKER),
    entry("wandb_run_name", One, NO_TRACKER),
    entry("wandb_api_key", One, NO_TRACKER),
    entry("log_config", Switch, LeftOut("options are not logged; the adapter's metadata hold them")),
    // Models.
    entry("no_half_vae", Switch, LeftOut("the VAE computes in the same type as the rest")),
    entry("vae_batch_size", One, Needless("images are encoded one at a time")),
    entry("tokenizer_cache_dir", One, Needless("the tokenizer comes with the model")),
    entry("train_inpainting", Switch, Refused("inpainting models are not supported")),
    entry("base_weights", Many, Refused("merge the adapters into the base model first: convert merge")),
    entry("base_weights_multiplier", Many, Refused("merge the adapters into the base model first: convert merge")),
    // Metadata beyond title, author, description, license and tags.
    entry("metadata_usage_hint", One, LeftOut("it is not written into the adapter's file")),
    entry("metadata_thumbnail", One, LeftOut("it is not written into the adapter's file")),
    entry("metadata_merged_from", One, LeftOut("it is not written into the adapter's file")),
    entry("metadata_trigger_phrase", One, LeftOut("it is not written into the adapter's file")),
    entry("metadata_preprocessor", One, LeftOut("it is not written into the adapter's file")),
    entry("metadata_is_negative_embedding", One, LeftOut("it is not written into the adapter's file")),
    // Data.
    entry("in_json", One, Refused("metadata JSON files are not read; use --train_data_dir or --dataset_config")),
    entry("dataset_class", One, Refused("data sets written in Python cannot be used")),
    entry("conditioning_data_dir", One, Refused("control images are not supported in training")),
    entry("cache_info", Switch, Needless("sizes and captions are read quickly enough")),
    entry("skip_cache_check", Switch, Needless("checking the cache takes no time to speak of")),
    entry("face_crop_aug_range", One, LeftOut("images are not cropped around faces")),
    entry("alpha_mask", Switch, NO_MASKS),
    entry("masked_loss", Switch, NO_MASKS),
    entry("weighted_captions", Switch, LeftOut("brackets in captions are ordinary text")),
    entry("debug_dataset", Switch, Refused("use `train check` to look at the data set")),
    entry("max_data_loader_n_workers", One, OUR_LOADER),
    entry("persistent_data_loader_workers", Switch, OUR_LOADER),
    // Network.
    entry("stop_text_encoder_training", One, LeftOut("the text encoder is trained to the end or not at all")),
    // Precision and memory.
    entry("full_fp16", Switch, FLOAT32_ADAPTER),
    entry("full_bf16", Switch, FLOAT32_ADAPTER),
    entry("fp8_base", Switch, LeftOut("the base model is not held in 8 bits")),
    entry("fp8_base_unet", Switch, LeftOut("the base model is not held in 8 bits")),
    entry("mem_eff_attn", Switch, OUR_ATTENTION),
    entry("xformers", Switch, OUR_ATTENTION),
    entry("sdpa", Switch, OUR_ATTENTION),
    entry("torch_compile", Switch, Needless("there is nothing to compile at run time")),
    entry("dynamo_backend", One, Needless("there is nothing to compile at run time")),
    entry("lowram", Switch, Needless("weights are read where they are needed")),
    entry("highvram", Switch, Needless("weights are read where they are needed")),
    entry("cpu_offload_checkpointing", Switch, Needless("activations stay on the device")),
    // Optimization.
    entry("use_8bit_adam", Switch, Needless("AdamW is the default")),
    entry("use_lion_optimizer", Switch, Refused("Lion is not available; see --optimizer_type")),
    entry("fused_backward_pass", Switch, Needless("gradients are small: only adapters have any")),
    entry("lr_scheduler_type", One, Refused("schedules of Python libraries are not available; see --lr_scheduler")),
    entry("lr_scheduler_args", Many, LeftOut("schedules take no further arguments")),
    // Several machines.
    entry("ddp_timeout", One, ONE_MACHINE),
    entry("ddp_gradient_as_bucket_view", Switch, ONE_MACHINE),
    entry("ddp_static_graph", Switch, ONE_MACHINE),
    entry("deepspeed", Switch, ONE_MACHINE),
    entry("zero_stage", One, ONE_MACHINE),
    entry("offload_optimizer_device", One, ONE_MACHINE),
    entry("offload_optimizer_nvme_path", One, ONE_MACHINE),
    entry("offload_param_device", One, ONE_MACHINE),
    entry("offload_param_nvme_path", One, ONE_MACHINE),
    entry("zero3_init_flag", Switch, ONE_MACHINE),
    entry("zero3_save_16bit_model", Switch, ONE_MACHINE),
    entry("fp16_master_weights_and_gradients", Switch, ONE_MACHINE),
    // Going on from elsewhere.
    entry("initial_epoch", One, RENUMBER),
    entry("initial_step", One, RENUMBER),
    entry("skip_until_initial_step", Switch, Needless("--resume continues in the middle of an epoch by itself")),
    // Hub.
    entry("huggingface_repo_id", One, NO_UPLOAD),
    entry("huggingface_repo_type", One, NO_UPLOAD),
    entry("huggingface_path_in_repo", One, NO_UPLOAD),
    entry("huggingface_token", One, NO_UPLOAD),
    entry("huggingface_repo_visibility", One, NO_UPLOAD),
    entry("save_state_to_huggingface", Switch, NO_UPLOAD),
    entry("async_upload", Switch, NO_UPLOAD),
    entry("resume_from_huggingface", Switch, Refused("states are resumed from a local folder only")),
    // The interface's own, and options of the trainers for other models that it writes along.
    entry("output_config", Switch, Refused("options are not written back to a TOML file")),
    entry("epoch", One, Needless("the interface has already put it into max_train_steps")),
    entry("noise_offset_type", One, Needless("the interface has already chosen the options it stands for")),
    entry("disable_mmap_load_safetensors", Switch, Needless("files are read piece by piece")),
    entry("cache_text_encoder_outputs", Switch, OTHER_MODEL),
    entry("cache_text_encoder_outputs_to_disk", Switch, OTHER_MODEL),
    entry("clip_l", One, OTHER_MODEL),
    entry("clip_g", One, OTHER_MODEL),
    entry("t5xxl", One, OTHER_MODEL),
    entry("ae", One, OTHER_MODEL),
    entry("guidance_scale", One, OTHER_MODEL),
    entry("timestep_sampling", One, OTHER_MODEL),
    entry("discrete_flow_shift", One, OTHER_MODEL),
    entry("model_prediction_type", One, OTHER_MODEL),
    entry("sigmoid_scale", One, OTHER_MODEL),
    entry("blocks_to_swap", One, OTHER_MODEL),
    entry("apply_t5_attn_mask", Switch, OTHER_MODEL),
    entry("t5xxl_max_token_length", One, OTHER_MODEL),
    entry("weighting_scheme", One, OTHER_MODEL),
    entry("logit_mean", One, OTHER_MODEL),
    entry("logit_std", One, OTHER_MODEL),
    entry("mode_scale", One, OTHER_MODEL),
];
