//! What a scheduler refuses.

/// A timestep, a number of steps or a step that a scheduler cannot follow, with what it can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A training timestep with a fraction, or out of all range.
    #[error("timestep: {found} is not a whole number from this scheduler's timesteps")]
    Fraction {
        /// The timestep.
        found: f64,
    },
    /// A timestep that is none of those set.
    #[error("timestep: {found} is not one of this scheduler's timesteps")]
    UnknownTimestep {
        /// The timestep.
        found: f64,
    },
    /// A timestep behind the training timesteps.
    #[error("timestep: {found} is beyond the last one, {last}")]
    BeyondTraining {
        /// The last training timestep.
        last: usize,
        /// The timestep.
        found: usize,
    },
    /// There is neither one timestep nor one per sample.
    #[error("timesteps: {found} timesteps for {samples} samples")]
    TimestepCount {
        /// Samples.
        samples: usize,
        /// Timesteps.
        found: usize,
    },
    /// Noise was predicted where there is nothing but noise.
    #[error(
        "scheduler: this timestep is pure noise, from which a prediction of the noise gives no sample; zero terminal SNR needs v_prediction"
    )]
    PureNoise,
    /// A share of DDPM's variance that is none.
    #[error("eta: {found} is outside 0..=1")]
    Eta {
        /// The share.
        found: f64,
    },
    /// Noise was given to a step without any variance.
    #[error("eta: is 0, so that no step takes noise")]
    NoVariance,
    /// Noise was given to the last step.
    #[error("timestep: the last step, that of timestep 0, takes no noise")]
    LastStep,
    /// Noise was given to a step that takes none.
    #[error("scheduler: the step at timestep {timestep} takes no noise")]
    TakesNoNoise {
        /// The step's timestep.
        timestep: f64,
    },
    /// A step that takes noise got none.
    #[error("scheduler: the step at timestep {timestep} needs random noise")]
    NoiseMissing {
        /// The step's timestep.
        timestep: f64,
    },
    /// A step before `Scheduler::set_timesteps`.
    #[error("scheduler: a step was asked for before the number of inference steps was set")]
    NoTimesteps,
    /// More steps than training had, or none.
    #[error("number of inference steps: {found} is outside 1..={most}")]
    Steps {
        /// Training timesteps.
        most: usize,
        /// Steps.
        found: usize,
    },
    /// Fewer steps than a Runge-Kutta start takes.
    #[error("number of inference steps: {found}; PNDM with Runge-Kutta steps takes at least 4")]
    RungeKutta {
        /// Steps.
        found: usize,
    },
    /// A step of extraction at which there is no noise.
    #[error("t: {t} adds no noise with this scheduler")]
    NoNoise {
        /// The step.
        t: usize,
    },
    /// A step of extraction that is no training step.
    #[error("t: {t} is outside 0..={last}")]
    ExtractionStep {
        /// The last one.
        last: usize,
        /// The step.
        t: usize,
    },
    /// Denoising would end where it starts.
    #[error("denoising_from: {from} leaves no timestep down to t = {t}; give one above t")]
    NothingToDenoise {
        /// Where to start.
        from: usize,
        /// Where to end.
        t: usize,
    },
    /// A start above the noisiest training timestep.
    #[error("{option}: {given} leads to timestep {start}; the noisiest one is {last}, give at most {last}")]
    TooNoisy {
        /// The option that gave the start.
        option: &'static str,
        /// Its value.
        given: usize,
        /// The timestep that follows.
        start: f64,
        /// The noisiest one.
        last: usize,
    },
    /// A ladder of inversion with more rungs than training had timesteps.
    #[error("inversion: {rungs} rungs need as many training timesteps")]
    Rungs {
        /// The rungs.
        rungs: usize,
    },
}
