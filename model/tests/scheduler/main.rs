//! Schedulers against diffusers.
//!
//! Reference: diffusers 0.32.2, torch 2.15.0, numpy 2.4.6, CPU, float32: tests/reference/scheduler.py makes
//! tests/fixtures/scheduler/. Latents come from this crate's own generator, which draws what torch.randn draws.

mod configurations;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use driftless::Error;
use driftless::rng::Generator;
use driftless::scheduler::{
    self, Ddim, ExtractionSchedule, InversionLadder, NoiseSchedule, PredictionType, Scheduler, SchedulerClass, SchedulerConfig,
    TimestepSpacing, ddim_inversion_step, image_to_image_timesteps,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Relative L2 error of latents after any step. Coefficients and operations round as diffusers' do, so what is left comes from the
/// generator's normals (1e-7); the largest error seen is 1.5e-7.
const TRAJECTORY_TOLERANCE: f64 = 2e-6;
const SHAPE: [usize; 4] = [1, 4, 8, 8];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/scheduler")).join(name)
}

fn json_fixture<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn tensor_fixture(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(name), &Device::Cpu).unwrap()
}

fn config(json: &Value) -> SchedulerConfig {
    parse(json).unwrap()
}

fn parse(json: &Value) -> Result<SchedulerConfig, Error> {
    SchedulerConfig::from_json(json.to_string().as_bytes(), "scheduler_config.json")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Timesteps are float32 values; as decimal text in JSON they come back equal in float32, not in float64.
fn as_float32(timesteps: &[f64]) -> Vec<f32> {
    assert!(timesteps.iter().all(|&t| t == f64::from(t as f32)));
    timesteps.iter().map(|&t| t as f32).collect()
}

fn relative_error(ours: &Tensor, theirs: &Tensor) -> f64 {
    let (ours, theirs) = (values(ours), values(theirs));
    assert_eq!(ours.len(), theirs.len());
    let squares = |pairs: &mut dyn Iterator<Item = f64>| pairs.map(|x| x * x).sum::<f64>().sqrt();
    let difference = squares(&mut ours.iter().zip(&theirs).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / squares(&mut theirs.iter().map(|x| f64::from(*x)))
}

/// The toy of the reference script: near the identity at high noise, slightly bent, different for every element.
fn toy_denoiser(x: &Tensor, timestep: f64) -> Tensor {
    let pattern: Vec<f32> = (0..x.elem_count()).map(|i| ((i * 7 % 13) as f32 - 6.0) * 0.01).collect();
    let pattern = Tensor::from_vec(pattern, x.shape(), &Device::Cpu).unwrap();
    let linear = x.affine(0.3 + 0.0006 * timestep, 0.0).unwrap();
    let bent = (x * x).unwrap().affine(0.01, 0.0).unwrap();
    ((linear - bent).unwrap() + pattern).unwrap()
}

#[derive(Deserialize)]
struct Trajectories {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    steps: usize,
    start: usize,
    stop: Option<usize>,
    seed: u64,
    eta: Option<f64>,
    kohya: Option<String>,
    /// The steps after which latents were kept; -1 is the start.
    indices: Vec<i64>,
    timesteps: Vec<f32>,
    sigma: f64,
}

impl Case {
    fn scheduler(&self) -> Box<dyn Scheduler> {
        match (&self.kohya, self.eta) {
            (Some(name), _) => scheduler::from_name(name, PredictionType::Epsilon).unwrap(),
            (None, Some(eta)) => Box::new(Ddim::new(&config(&self.config)).with_eta(eta).unwrap()),
            (None, None) => scheduler::from_config(&config(&self.config)).unwrap(),
        }
    }

    /// Latents after the start and after every step.
    fn run(&self) -> Vec<Tensor> {
        let mut scheduler = self.scheduler();
        scheduler.set_timesteps(self.steps).unwrap();
        let listed = scheduler.timesteps();
        let timesteps = listed[self.start..self.stop.unwrap_or(listed.len())].to_vec();
        assert_eq!(as_float32(&timesteps), self.timesteps, "{}", self.name);
        assert!((scheduler.init_noise_sigma() / self.sigma - 1.0).abs() < 1e-6, "{}", self.name);

        let mut generator = Generator::manual_seed(self.seed);
        let mut draw = || generator.randn_tensor(&SHAPE, &Device::Cpu).unwrap();
        let (clean, noise) = (draw(), draw());
        let mut sample = match self.start {
            _ if scheduler.config().class() == SchedulerClass::DdimInverse => clean,
            0 => noise.affine(scheduler.init_noise_sigma(), 0.0).unwrap(),
            _ => scheduler.add_noise(&clean, &noise, timesteps[0]).unwrap(),
        };
        let mut latents = vec![sample.clone()];
        for timestep in timesteps {
            let input = scheduler.scale_model_input(&sample, timestep).unwrap();
            let output = toy_denoiser(&input, timestep);
            sample = if scheduler.takes_noise(timestep) {
                scheduler.step_with_noise(&output, timestep, &sample, &draw()).unwrap()
            } else {
                scheduler.step(&output, timestep, &sample).unwrap()
            };
            latents.push(sample.clone());
        }
        latents
    }
}

fn check_trajectories(family: &str) {
    let Trajectories { cases } = json_fixture(&format!("{family}.json"));
    let reference = tensor_fixture(&format!("{family}.safetensors"));
    let mut worst = 0.0_f64;
    for case in &cases {
        let ours = case.run();
        let theirs = &reference[&case.name];
        assert_eq!(theirs.dim(0).unwrap(), case.indices.len());
        for (row, &index) in case.indices.iter().enumerate() {
            let step = usize::try_from(index + 1).unwrap();
            let error = relative_error(&ours[step], &theirs.narrow(0, row, 1).unwrap());
            worst = worst.max(error);
            assert!(error <= TRAJECTORY_TOLERANCE, "{family} {}, after step {index}: relative error {error:e}", case.name);
        }
    }
    println!("{family}: {} trajectories, largest relative error {worst:.1e}", cases.len());
}

#[test]
fn pndm_walks_as_diffusers() {
    check_trajectories("pndm");
}

#[test]
fn ddim_walks_as_diffusers() {
    check_trajectories("ddim");
}

#[test]
fn ddim_inverse_walks_as_diffusers() {
    check_trajectories("ddim_inverse");
}

#[test]
fn ddpm_walks_as_diffusers() {
    check_trajectories("ddpm");
}

#[test]
fn euler_walks_as_diffusers() {
    check_trajectories("euler");
}

#[test]
fn euler_ancestral_walks_as_diffusers() {
    check_trajectories("euler_ancestral");
}

#[derive(Deserialize)]
struct Schedules {
    configs: BTreeMap<String, Value>,
    lists: Vec<TimestepList>,
    inversions: Vec<Inversion>,
}

#[derive(Deserialize)]
struct TimestepList {
    config: Value,
    steps: usize,
    length: usize,
    first: Vec<f32>,
    last: Vec<f32>,
    weighted_sum: f64,
}

#[derive(Deserialize)]
struct Inversion {
    stop: usize,
    visited: Vec<usize>,
}

#[test]
fn cumulative_alphas_are_those_of_torch() {
    let reference = tensor_fixture("schedule.safetensors");
    for (name, json) in json_fixture::<Schedules>("schedule.json").configs {
        let ours = scheduler::from_config(&config(&json)).unwrap().noise_schedule().alphas_cumprod.clone();
        let theirs = values(&reference[&format!("alphas_cumprod.{name}")]);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        // Equal to the bit: the same float32 roundings in the same order. Only torch's vector square root, which the stretching to
        // zero SNR takes, is not rounded correctly: one unit in the last place, squared.
        let tolerance = if name.ends_with("zero-snr") { 2.5e-7 } else { 0.0 };
        for (t, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!((a - b).abs() <= tolerance * b, "{name}, timestep {t}: {a} for {b}");
        }
    }
}

#[test]
fn a_schedule_can_be_stretched_to_zero_snr() {
    let zero_snr = &json_fixture::<Schedules>("schedule.json").configs["zero-snr"];
    let ours = NoiseSchedule::with_zero_terminal_snr(&SchedulerConfig::stable_diffusion(SchedulerClass::Ddpm));
    assert_eq!(ours, NoiseSchedule::new(&config(zero_snr)));
    assert_eq!(ours, NoiseSchedule::with_zero_terminal_snr(&config(zero_snr)));
    assert_eq!(ours.alphas_cumprod.last(), Some(&0.0));
    assert_eq!(ours.snr(999).unwrap(), 0.0);
}

#[test]
fn noise_is_added_as_diffusers_adds_it() {
    let reference = tensor_fixture("schedule.safetensors");
    let schedule = NoiseSchedule::new(&SchedulerConfig::stable_diffusion(SchedulerClass::Ddpm));
    let mut generator = Generator::manual_seed(11);
    let clean = generator.randn_tensor(&[5, 4, 3, 2], &Device::Cpu).unwrap();
    let noise = generator.randn_tensor(&[5, 4, 3, 2], &Device::Cpu).unwrap();
    let timesteps = [0, 51, 261, 700, 999];
    // float32: the generators differ by 1e-6. Halves: such a difference may flip the rounding of an element.
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 2e-4), (DType::BF16, 1e-3)] {
        let (x, e) = (clean.to_dtype(dtype).unwrap(), noise.to_dtype(dtype).unwrap());
        let name = match dtype {
            DType::F32 => "float32",
            DType::F16 => "float16",
            _ => "bfloat16",
        };
        let noisy = schedule.add_noise(&x, &e, &timesteps).unwrap();
        let velocity = schedule.velocity(&x, &e, &timesteps).unwrap();
        assert_eq!((noisy.dtype(), velocity.dtype()), (dtype, dtype));
        assert!(relative_error(&noisy, &reference[&format!("add_noise.{name}")]) < tolerance, "{name}");
        assert!(relative_error(&velocity, &reference[&format!("velocity.{name}")]) < tolerance, "{name}");
    }
    // One timestep for all samples.
    let alone = schedule.add_noise(&clean, &noise, &[51]).unwrap().narrow(0, 1, 1).unwrap();
    let among = schedule.add_noise(&clean, &noise, &timesteps).unwrap().narrow(0, 1, 1).unwrap();
    assert_eq!(values(&alone), values(&among));
    assert!(schedule.add_noise(&clean, &noise, &[1, 2]).is_err());
    assert!(schedule.add_noise(&clean, &noise, &[1000]).is_err());
    for (timestep, theirs) in values(&reference["snr"]).into_iter().enumerate() {
        // Two square roots, a quotient and a square.
        assert!((schedule.snr(timestep).unwrap() / theirs - 1.0).abs() < 4.0 * f32::EPSILON, "timestep {timestep}");
    }
}

#[test]
fn timestep_lists_are_those_of_diffusers() {
    for list in json_fixture::<Schedules>("schedule.json").lists {
        let mut scheduler = scheduler::from_config(&config(&list.config)).unwrap();
        scheduler.set_timesteps(list.steps).unwrap();
        let ours = scheduler.timesteps();
        let context = format!("{} with {} steps", list.config, list.steps);
        assert_eq!(ours.len(), list.length, "{context}");
        assert_eq!(as_float32(&ours[..list.first.len()]), list.first, "{context}");
        assert_eq!(as_float32(&ours[ours.len() - list.last.len()..]), list.last, "{context}");
        let weighted_sum: f64 = ours.iter().enumerate().map(|(i, t)| (i + 1) as f64 * t).sum();
        // Sums of up to 2e8 of float32 values in float64.
        assert!((weighted_sum - list.weighted_sum).abs() < 1e-6, "{context}: {weighted_sum} for {}", list.weighted_sum);
    }
}

#[test]
fn inversion_climbs_as_the_extractor_does() {
    let reference = tensor_fixture("schedule.safetensors");
    let config = SchedulerConfig::stable_diffusion_1_5();
    for inversion in json_fixture::<Schedules>("schedule.json").inversions {
        let ladder = InversionLadder::new(&config, inversion.stop as f64).unwrap();
        assert_eq!(ladder.rungs.iter().map(|rung| rung.timestep).collect::<Vec<_>>(), inversion.visited);
        let mut latents = Generator::manual_seed(inversion.stop as u64).randn_tensor(&SHAPE, &Device::Cpu).unwrap();
        for rung in ladder.rungs {
            let noise = toy_denoiser(&latents, rung.timestep as f64);
            latents = ddim_inversion_step(&latents, &noise, rung.alpha_from, rung.alpha_to).unwrap();
        }
        let error = relative_error(&latents, &reference[&format!("inversion.{}", inversion.stop)]);
        assert!(error <= TRAJECTORY_TOLERANCE, "up to {}: relative error {error:e}", inversion.stop);
    }
}

#[test]
fn inversion_reads_spacing_as_a_ddim_scheduler() {
    // The default spacing of Euler is "linspace", that of DDIM "leading"; what the file leaves out takes DDIM's.
    let euler = json!({"_class_name": "EulerDiscreteScheduler", "steps_offset": 1});
    assert_eq!(config(&euler).timestep_spacing(), TimestepSpacing::Linspace);
    let ladder = InversionLadder::new(&config(&euler), 20.0).unwrap();
    assert_eq!(ladder.rungs.iter().map(|rung| rung.timestep).collect::<Vec<_>>(), [11, 21]);
}

/// Number of inference steps, start, number of denoised timesteps, extraction step.
type Span = (usize, f64, usize, f64);

#[derive(Deserialize)]
struct Extraction {
    configs: BTreeMap<String, Value>,
    plain: BTreeMap<String, Vec<Option<f64>>>,
    denoising: Vec<(String, usize, usize, Option<Span>)>,
    strengths: Vec<(usize, f64, usize)>,
}

#[test]
fn extractions_visit_the_timesteps_of_the_original() {
    let reference: Extraction = json_fixture("extraction.json");
    let schedulers: BTreeMap<_, _> =
        reference.configs.iter().map(|(name, json)| (name, scheduler::from_config(&config(json)).unwrap())).collect();
    for (name, steps) in &reference.plain {
        for (t, theirs) in steps.iter().enumerate() {
            let ours = ExtractionSchedule::new(schedulers[name].as_ref(), t, None);
            // Where the original has no timestep at 0, ours is the least noisy one.
            let theirs = if t == 0 { theirs.or(steps[1]) } else { *theirs };
            let expected = theirs.map(|step| ExtractionSchedule {
                num_inference_steps: 1000,
                start: step,
                denoised: Vec::new(),
                extraction: step,
            });
            assert_eq!(ours.ok(), expected, "{name}, t {t}");
        }
    }
    for (name, from, t, theirs) in &reference.denoising {
        let ours = ExtractionSchedule::new(schedulers[name].as_ref(), *t, Some(*from)).ok();
        let summary = ours.as_ref().map(|ours| (ours.num_inference_steps, ours.start, ours.denoised.len(), ours.extraction));
        assert_eq!(summary, *theirs, "{name}, denoising from {from} to {t}");
    }
    for &(steps, strength, length) in &reference.strengths {
        let mut ddim = schedulers[&"ddim".to_owned()].clone();
        ddim.set_timesteps(steps).unwrap();
        assert_eq!(image_to_image_timesteps(ddim.as_ref(), steps, strength).len(), length, "{steps} steps, strength {strength}");
    }
}

#[test]
fn an_extraction_names_what_it_denoises() {
    let pndm = scheduler::from_config(&SchedulerConfig::stable_diffusion_1_5()).unwrap();
    let ours = ExtractionSchedule::new(pndm.as_ref(), 58, Some(60)).unwrap();
    assert_eq!((ours.start, ours.denoised.as_slice(), ours.extraction), (61.0, [61.0, 60.0, 59.0].as_slice(), 58.0));
    // As in the original, 0 is the same as not given.
    assert_eq!(ExtractionSchedule::new(pndm.as_ref(), 50, Some(0)).unwrap().extraction, 51.0);
    let messages = [(1000, None, "t: 1000 leads to timestep 1000"), (50, Some(40), "denoising_from: 40 leaves no timestep")];
    for (t, from, start) in messages {
        let message = ExtractionSchedule::new(pndm.as_ref(), t, from).unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
    }
    for (t, from) in [(usize::MAX, None), (usize::MAX, Some(usize::MAX)), (0, Some(usize::MAX)), (0, Some(1001))] {
        assert!(ExtractionSchedule::new(pndm.as_ref(), t, from).is_err());
    }
}

#[test]
fn a_copy_forgets_nothing_and_a_reset_everything() {
    let output = Generator::manual_seed(1).randn_tensor(&SHAPE, &Device::Cpu).unwrap();
    let sample = Generator::manual_seed(2).randn_tensor(&SHAPE, &Device::Cpu).unwrap();
    let mut pndm = scheduler::from_config(&SchedulerConfig::stable_diffusion_1_5()).unwrap();
    assert!(pndm.step(&output, 51.0, &sample).is_err(), "no timesteps were set");
    pndm.set_timesteps(1000).unwrap();
    let mut fresh = pndm.clone();
    let first = values(&pndm.step(&output, 51.0, &sample).unwrap());
    let mut copy = pndm.clone();
    let second = values(&pndm.step(&output, 50.0, &sample).unwrap());
    assert_eq!(values(&copy.step(&output, 50.0, &sample).unwrap()), second);
    assert_eq!(values(&fresh.step(&output, 51.0, &sample).unwrap()), first);
    pndm.set_timesteps(1000).unwrap();
    assert_eq!(values(&pndm.step(&output, 51.0, &sample).unwrap()), first);
    // A first step in the second's place differs: it does not go back to a sample kept before.
    pndm.set_timesteps(1000).unwrap();
    assert_ne!(values(&pndm.step(&output, 50.0, &sample).unwrap()), second);
}

#[test]
fn half_precision_samples_keep_their_type() {
    let sample = Generator::manual_seed(2).randn_tensor(&SHAPE, &Device::Cpu).unwrap();
    for class in SchedulerClass::ALL {
        let mut scheduler = scheduler::from_config(&SchedulerConfig::stable_diffusion(*class)).unwrap();
        scheduler.set_timesteps(10).unwrap();
        let timestep = scheduler.timesteps()[4];
        let mut step = |dtype| {
            let x = sample.to_dtype(dtype).unwrap();
            let input = scheduler.scale_model_input(&x, timestep).unwrap();
            assert_eq!(input.dtype(), dtype);
            if scheduler.takes_noise(timestep) {
                scheduler.step_with_noise(&input, timestep, &x, &x).unwrap()
            } else {
                scheduler.boxed_clone().step(&input, timestep, &x).unwrap()
            }
        };
        let (half, single) = (step(DType::BF16), step(DType::F32));
        assert_eq!(half.dtype(), DType::BF16);
        // bfloat16 keeps 8 bits: 4e-3 for the input and again for the result, and the steps enlarge it a little.
        assert!(relative_error(&half, &single) < 2e-2, "{class:?}");
    }
}

#[test]
fn noise_is_neither_invented_nor_dropped() {
    let x = Tensor::ones(&SHAPE, DType::F32, &Device::Cpu).unwrap();
    let mut ddpm = scheduler::from_config(&SchedulerConfig::stable_diffusion(SchedulerClass::Ddpm)).unwrap();
    ddpm.set_timesteps(10).unwrap();
    assert!(ddpm.takes_noise(900.0) && ddpm.step(&x, 900.0, &x).is_err());
    assert!(!ddpm.takes_noise(0.0) && ddpm.step_with_noise(&x, 0.0, &x, &x).is_err());
    let mut ddim = scheduler::from_config(&SchedulerConfig::stable_diffusion(SchedulerClass::Ddim)).unwrap();
    ddim.set_timesteps(10).unwrap();
    assert!(ddim.step_with_noise(&x, 900.0, &x, &x).is_err());
    assert!(Ddim::new(ddim.config()).with_eta(1.5).is_err());
    assert!(Ddim::new(ddim.config()).with_eta(f64::NAN).is_err());
}

#[test]
fn impossible_steps_are_refused() {
    let x = Tensor::ones(&SHAPE, DType::F32, &Device::Cpu).unwrap();
    let other = Tensor::ones(&[1, 4, 8, 7], DType::F32, &Device::Cpu).unwrap();
    for class in SchedulerClass::ALL {
        let mut scheduler = scheduler::from_config(&SchedulerConfig::stable_diffusion(*class)).unwrap();
        assert!(scheduler.set_timesteps(0).is_err() && scheduler.set_timesteps(1001).is_err(), "{class:?}");
        scheduler.set_timesteps(10).unwrap();
        let mut step = |output: &Tensor, timestep: f64| {
            if scheduler.takes_noise(timestep) {
                scheduler.step_with_noise(output, timestep, &x, &x)
            } else {
                scheduler.step(output, timestep, &x)
            }
        };
        for timestep in [-1.0, 0.5, 2000.0, 1e300, f64::NAN, f64::INFINITY] {
            assert!(step(&x, timestep).is_err(), "{class:?} at {timestep}");
        }
        let usual = 100.0;
        assert!(step(&other, usual).is_err(), "{class:?}");
    }
    // PNDM's first timestep of 1000 is 1000, which has no alpha.
    let mut pndm = scheduler::from_config(&SchedulerConfig::stable_diffusion_1_5()).unwrap();
    pndm.set_timesteps(1000).unwrap();
    assert_eq!(pndm.timesteps()[0], 1000.0);
    assert!(pndm.step(&x, 1000.0, &x).is_err() && pndm.add_noise(&x, &x, 1000.0).is_err());
    // Pure noise holds no sample that a prediction of the noise could uncover.
    let json = json!({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true, "timestep_spacing": "trailing"});
    let mut ddim = scheduler::from_config(&config(&json)).unwrap();
    ddim.set_timesteps(10).unwrap();
    assert!(ddim.step(&x, 999.0, &x).is_err() && ddim.step(&x, 899.0, &x).is_ok());
    // Runge-Kutta steps need four timesteps.
    let mut prk = scheduler::from_name("pndm", PredictionType::Epsilon).unwrap();
    assert!(prk.set_timesteps(3).is_err() && prk.set_timesteps(4).is_ok());
}

/// What was added as noise, predicted exactly, gives the clean sample back, whatever the scheduler and the form of the prediction.
#[test]
fn an_exact_prediction_means_the_clean_sample() {
    let mut generator = Generator::manual_seed(3);
    let [clean, noise] = [(); 2].map(|()| generator.randn_tensor(&SHAPE, &Device::Cpu).unwrap());
    for class in
        [SchedulerClass::Pndm, SchedulerClass::Ddim, SchedulerClass::EulerDiscrete, SchedulerClass::EulerAncestralDiscrete]
    {
        let config = SchedulerConfig::stable_diffusion(class);
        for prediction in [PredictionType::Epsilon, PredictionType::Velocity] {
            let mut scheduler = scheduler::from_config(&config.with_prediction_type(prediction).unwrap()).unwrap();
            scheduler.set_timesteps(1000).unwrap();
            for timestep in [51.0, 501.0] {
                let noised = scheduler.add_noise(&clean, &noise, timestep).unwrap();
                let output = match prediction {
                    PredictionType::Velocity => {
                        scheduler.noise_schedule().velocity(&clean, &noise, &[timestep as usize]).unwrap()
                    }
                    PredictionType::Epsilon | PredictionType::Sample => noise.clone(),
                };
                let found = scheduler.predicted_original(&output, timestep, &noised).unwrap();
                let error = relative_error(&found, &clean);
                // Differences of numbers some ten times as large round in float32.
                assert!(error < 1e-5, "{class:?} {prediction:?} {timestep}: {error:.1e}");
            }
        }
    }
}
