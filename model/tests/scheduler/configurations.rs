//! Scheduler configurations: defaults, files, refusals, and kohya's names.

use driftless::Error;
use driftless::scheduler::{self, PredictionType, SchedulerClass, SchedulerConfig, TimestepSpacing};
use serde_json::json;

use crate::{config, parse};

#[test]
fn configurations_take_their_class_s_defaults() {
    for class in SchedulerClass::ALL {
        let config = config(&json!({"_class_name": class.name(), "_diffusers_version": "0.32.2", "trained_betas": null}));
        assert_eq!(config.class(), *class);
        assert_eq!((config.num_train_timesteps(), config.steps_offset()), (1000, 0));
        assert_eq!(config.prediction_type(), PredictionType::Epsilon);
        let euler = matches!(class, SchedulerClass::EulerDiscrete | SchedulerClass::EulerAncestralDiscrete);
        assert_eq!(config.timestep_spacing(), if euler { TimestepSpacing::Linspace } else { TimestepSpacing::Leading });
        assert_eq!(SchedulerConfig::stable_diffusion(*class).class(), *class);
        assert!(SchedulerConfig::stable_diffusion_1_5().with_class(*class).is_ok());
    }
}

#[test]
fn a_file_is_read_and_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scheduler_config.json");
    assert!(matches!(SchedulerConfig::from_file(&path), Err(Error::Io { .. })));
    std::fs::write(&path, r#"{"_class_name": "DDIMScheduler", "steps_offset": 1}"#).unwrap();
    assert_eq!(SchedulerConfig::from_file(&path).unwrap().steps_offset(), 1);
    for text in ["", "[]", "{", r#"{"_class_name": 3}"#, r#"{"_class_name": "DDIMScheduler", "steps_offset": -1}"#] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(SchedulerConfig::from_file(&path), Err(Error::File { .. })), "{text}");
    }
    std::fs::write(&path, vec![b' '; 9 << 20]).unwrap();
    assert!(matches!(SchedulerConfig::from_file(&path), Err(Error::File { .. })));
}

#[test]
fn unsupported_settings_are_refused_by_name() {
    let refused = [
        ("_class_name", json!({})),
        ("_class_name", json!({"_class_name": "LMSDiscreteScheduler"})),
        ("beta_schedule", json!({"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"})),
        ("prediction_type", json!({"_class_name": "PNDMScheduler", "prediction_type": "sample"})),
        ("prediction_type", json!({"_class_name": "DDIMScheduler", "prediction_type": "flow_prediction"})),
        ("timestep_spacing", json!({"_class_name": "DDIMScheduler", "timestep_spacing": "even"})),
        ("timestep_spacing", json!({"_class_name": "DDIMInverseScheduler", "timestep_spacing": "linspace"})),
        ("thresholding", json!({"_class_name": "DDIMScheduler", "thresholding": true})),
        ("use_karras_sigmas", json!({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true})),
        ("interpolation_type", json!({"_class_name": "EulerDiscreteScheduler", "interpolation_type": "log_linear"})),
        ("timestep_type", json!({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"})),
        ("variance_type", json!({"_class_name": "DDPMScheduler", "variance_type": "learned_range"})),
        ("set_alpha_to_zero", json!({"_class_name": "DDIMInverseScheduler", "set_alpha_to_zero": false})),
        ("num_train_timesteps", json!({"_class_name": "DDIMScheduler", "num_train_timesteps": 0})),
        ("num_train_timesteps", json!({"_class_name": "DDIMScheduler", "num_train_timesteps": 1_000_000_000_000_u64})),
        ("steps_offset", json!({"_class_name": "DDIMScheduler", "steps_offset": u64::MAX})),
        ("beta_start", json!({"_class_name": "DDIMScheduler", "beta_start": -0.1})),
        ("beta_end", json!({"_class_name": "DDIMScheduler", "beta_end": 1.0})),
        ("trained_betas", json!({"_class_name": "DDIMScheduler", "trained_betas": [0.1]})),
        ("trained_betas", json!({"_class_name": "DDIMScheduler", "num_train_timesteps": 1, "trained_betas": [2.0]})),
        ("clip_sample_range", json!({"_class_name": "DDIMScheduler", "clip_sample_range": 0.0})),
    ];
    for (entry, json) in refused {
        match parse(&json) {
            Err(Error::Config { key, .. }) => assert_eq!(key, entry, "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }
    // The same entry is passed over where the class does not have it, as in diffusers.
    assert!(parse(&json!({"_class_name": "PNDMScheduler", "use_karras_sigmas": true, "thresholding": true})).is_ok());
}

#[test]
fn samplers_go_by_kohya_s_names() {
    for name in scheduler::SAMPLERS {
        assert!(scheduler::from_name(name, PredictionType::Velocity).is_ok(), "{name}");
    }
    let error = scheduler::from_name("eular", PredictionType::Epsilon).unwrap_err();
    assert_eq!(error.to_string(), "unknown sampler `eular`; did you mean `euler`?");
    assert!(scheduler::from_name("pndm", PredictionType::Sample).is_err());
}
