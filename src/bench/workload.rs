//! Training steps that are timed: the reference workloads, and the models of configurations.
//!
//! A [`Chosen`] one has a name and can be recorded. A [`Workload`] has the plans of a step and random
//! inputs. A [`Running`] one is compiled on a device.

use super::Options;
use super::layers::{self, LayerStep};
use crate::backend::{self, Backend, Compiled, Feed, Scalars};
use crate::config::{Config, NetworkKind, Objective, preset};
use crate::error::{Error, Result};
use crate::models::{CRITIC_STEP, Family, Model};
use crate::nn::ParamSet;
use crate::optim::{LEARNING_RATE, STEP};
use crate::parameters;
use crate::rng::{self, Stream};
use crate::shape::DType;
use crate::tape::op::Scalar;
use crate::tape::plan::{Plan, Precision};

/// A layer that is a reference workload by itself.
struct Layer {
    name: &'static str,
    /// Records a training step with the optimiser of a configuration.
    step: fn(&Config) -> LayerStep,
    /// What the layer reads.
    pixels: Pixels,
}

/// The presets that are reference workloads.
pub(super) const FROM_PRESETS: [&str; 6] =
    ["pixelcnn-mnist", "pixelcnn-cifar", "gated-pixelcnn-mnist", "vae-mnist", "vae-mlp-mnist", "dcgan-cifar"];
const LAYERS: [Layer; 3] = [
    Layer { name: "row-lstm-layer", step: layers::row_lstm, pixels: Pixels::Symmetric },
    Layer { name: "diagonal-bilstm-layer", step: layers::diagonal_bilstm, pixels: Pixels::Symmetric },
    Layer { name: "lstm-784", step: layers::lstm, pixels: Pixels::Binary },
];
pub(super) const WGAN_GP: &str = "wgan-gp-critic";

/// Number of batches that are used in turn, so that no run finds its images in a cache.
const BATCHES: usize = 4;

/// The reference workloads of this version, in the order in which they are timed.
pub fn names() -> Vec<String> {
    let layers = LAYERS.iter().map(|layer| &layer.name);
    FROM_PRESETS.iter().chain(layers).chain(&[WGAN_GP]).map(|name| name.to_string()).collect()
}

/// A training step that is to be timed.
pub(super) struct Chosen {
    /// Its name in results.
    pub name: String,
    what: What,
}

enum What {
    /// A reference workload by its name.
    Reference(String),
    /// The model of a configuration.
    Model(Box<Config>),
}

impl Chosen {
    /// The model of a configuration under the configuration's own name.
    pub fn model(config: &Config) -> Chosen {
        Chosen { name: config.name().to_string(), what: What::Model(Box::new(config.clone())) }
    }

    /// Whether it is a reference workload of its own size. Every weight of those learns.
    pub fn is_reference(&self) -> bool {
        matches!(self.what, What::Reference(_))
    }

    /// Records the plans of the step.
    pub fn workload(&self) -> Result<Workload> {
        match &self.what {
            What::Reference(name) => Workload::reference(name),
            What::Model(config) => Workload::model(config),
        }
    }
}

/// What `options` ask for: the model of a run or reference workloads, at every batch size and image size
/// that is asked for.
///
/// # Errors
/// [`Error::Usage`] for a name that does not exist, and for a size that a workload cannot have.
pub(super) fn choose(options: &Options) -> Result<Vec<Chosen>> {
    let Options { model, batches, sides, names: asked, .. } = options;
    if model.is_some() && !asked.is_empty() {
        return Err(Error::Usage("give either names of training steps or --from-run".into()));
    }
    let reference = super::select(&names(), asked)?;
    if batches.is_empty() && sides.is_empty() {
        let by_name = |name: String| Chosen { what: What::Reference(name.clone()), name };
        let all = reference.into_iter().map(by_name).collect();
        return Ok(model.as_ref().map_or(all, |config| vec![Chosen::model(config)]));
    }
    let configs = match model {
        Some(config) => vec![config.clone()],
        None => reference.iter().map(|name| resizable(name)).collect::<Result<_>>()?,
    };
    let mut all = vec![];
    for config in &configs {
        for side in either(sides) {
            for batch in either(batches) {
                all.push(resized(config, batch, side)?);
            }
        }
    }
    Ok(all)
}

/// Each of the values; if there is none, once none.
fn either(values: &[usize]) -> Vec<Option<usize>> {
    if values.is_empty() { vec![None] } else { values.iter().copied().map(Some).collect() }
}

/// The configuration of a reference workload whose sizes can be changed.
fn resizable(name: &str) -> Result<Config> {
    if FROM_PRESETS.contains(&name) {
        return preset(name);
    }
    let presets = FROM_PRESETS.join(", ");
    Err(Error::Usage(format!("{name} has one size; --batch and --size can change {presets}")))
}

/// A model with another batch and other images.
fn resized(config: &Config, batch: Option<usize>, side: Option<usize>) -> Result<Chosen> {
    let mut config = config.clone();
    let mut name = config.name().to_string();
    if let Some(side) = side {
        if config.model.height.is_none() || config.network == NetworkKind::Lstm {
            return Err(Error::Usage(format!("the images of {name} have one size, which --size cannot change")));
        }
        (config.model.height, config.model.width) = (Some(side), Some(side));
        name += &format!(" {side}x{side}");
    }
    if let Some(batch) = batch {
        config.batch = batch;
        name += &format!(" batch {batch}");
    }
    config.validate()?;
    Ok(Chosen { name, what: What::Model(Box::new(config)) })
}

/// The values of an input.
pub(super) enum Values {
    Floats(Vec<f32>),
    Indices(Vec<u32>),
}

impl Values {
    fn feed(&self) -> Feed<'_> {
        match self {
            Values::Floats(values) => Feed::F32(values),
            Values::Indices(values) => Feed::U32(values),
        }
    }
}

/// The values of every input of every plan of one step.
type StepInputs = Vec<Vec<Values>>;

/// The plans of a step, and the parameters that they share.
pub(super) struct Workload {
    pub set: ParamSet,
    pub plans: Vec<Plan>,
    pub images: usize,
    /// The kind of values that its inputs are filled with.
    pixels: Pixels,
    /// Indices that its inputs have are below this number.
    classes: usize,
}

/// The kind of values that inputs are filled with.
#[derive(Clone, Copy)]
enum Pixels {
    /// 1 with probability 0.3, else 0.
    Binary,
    /// Uniform in [0, 1).
    Unit,
    /// Uniform in [-1, 1).
    Symmetric,
}

impl Workload {
    /// The reference workload of this name.
    pub fn reference(name: &str) -> Result<Workload> {
        if let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) {
            let LayerStep { set, plan } = (layer.step)(&preset(FROM_PRESETS[0])?);
            return Ok(Workload { set, plans: vec![plan], images: layers::IMAGES, pixels: layer.pixels, classes: 0 });
        }
        if name == WGAN_GP {
            let mut config = preset("dcgan-cifar")?;
            config.objective = Some(Objective::WganGp);
            (config.optimizer.beta1, config.optimizer.beta2) = (0.0, 0.9);
            let model = Model::new(&config)?;
            let Family::Adversarial(gan) = &model.family else {
                return Err(Error::Failed(format!("{name} needs an adversarial network")));
            };
            let plans = vec![gan.critic_on_given(config.batch)];
            let (images, pixels) = (config.batch, Pixels::Symmetric);
            return Ok(Workload { set: model.set, plans, images, pixels, classes: 0 });
        }
        Workload::model(&preset(name)?)
    }

    /// A training step of the model of a configuration.
    pub fn model(config: &Config) -> Result<Workload> {
        let model = Model::new(config)?;
        let pixels = match &model.family {
            Family::Adversarial(_) => Pixels::Symmetric,
            Family::Autoregressive(net) if net.pixels().levels > 2 => Pixels::Unit,
            Family::Latent(net) if net.levels() != Some(2) => Pixels::Unit,
            Family::Sequence(_) | Family::Classifier(_) => Pixels::Unit,
            Family::Autoregressive(_) | Family::Latent(_) => Pixels::Binary,
        };
        let (plans, classes) = (model.training(), model.classes());
        // Each plan of a step takes a batch of its own.
        Ok(Workload { images: config.batch * plans.len(), plans, set: model.set, pixels, classes })
    }

    /// The shapes of the inputs of the first plan.
    pub fn shape(&self) -> String {
        self.plans[0].inputs.iter().map(|i| i.meta.shape.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// The same workload, whose products have operands of this precision.
    fn in_precision(self, precision: Precision) -> Workload {
        Workload { plans: self.plans.into_iter().map(|plan| plan.in_precision(precision)).collect(), ..self }
    }

    /// The batches that are used in turn.
    fn batches(&self) -> Vec<StepInputs> {
        let mut next = 0;
        let mut draw = |len: usize, dtype: DType| {
            next += 1;
            let uniform = |i: u32| rng::uniform(1, Stream::Test, [next, i]);
            let value = |i| match self.pixels {
                Pixels::Binary => f32::from(uniform(i) < 0.3),
                Pixels::Unit => uniform(i),
                Pixels::Symmetric => 2.0 * uniform(i) - 1.0,
            };
            let index = |i| (uniform(i) * self.classes as f32) as u32;
            match dtype {
                DType::F32 => Values::Floats((0..len as u32).map(value).collect()),
                DType::U32 => Values::Indices((0..len as u32).map(index).collect()),
            }
        };
        let mut plan = |plan: &Plan| plan.inputs.iter().map(|i| draw(i.meta.shape.len(), i.meta.dtype)).collect();
        (0..BATCHES).map(|_| self.plans.iter().map(&mut plan).collect()).collect()
    }
}

/// A workload that is compiled on a device.
pub(super) struct Running {
    pub device: Box<dyn Backend>,
    pub workload: Workload,
    pub compiled: Vec<Compiled>,
    batches: Vec<StepInputs>,
}

impl Running {
    /// Compiles a workload on the device that `options` name, with initial parameters.
    pub fn new(workload: Workload, options: &Options) -> Result<Running> {
        let mut device = backend::open(&options.device, options.threads)?;
        parameters::initialize(&mut *device, &workload.set, 1)?;
        let workload = match options.precision {
            Some(precision) => workload.in_precision(precision),
            None => workload,
        };
        let compiled = workload.plans.iter().map(|p| device.compile(p)).collect::<Result<_>>()?;
        Ok(Running { batches: workload.batches(), device, workload, compiled })
    }

    /// Calls `act` for each plan of step number `step`.
    pub fn step(
        &mut self,
        step: usize,
        mut act: impl FnMut(&mut dyn Backend, usize, Compiled, &[Feed], &Scalars) -> Result<()>,
    ) -> Result<()> {
        let mut scalars = Scalars::default();
        scalars
            .set(LEARNING_RATE, 1e-4)
            .set(STEP, (step + 1) as f32)
            .set(CRITIC_STEP, (step + 1) as f32)
            .set_u32(Scalar::REPLAY, step as u32);
        for (index, (plan, inputs)) in self.compiled.iter().zip(&self.batches[step % BATCHES]).enumerate() {
            let feeds: Vec<Feed> = inputs.iter().map(Values::feed).collect();
            act(&mut *self.device, index, *plan, &feeds, &scalars)?;
        }
        Ok(())
    }

    /// Waits for the device and reads the loss of the last step.
    pub fn loss(&mut self) -> Result<f32> {
        let last = *self.compiled.last().expect("a step has a plan");
        let mut loss = [f32::NAN];
        backend::read(&mut *self.device, last, 0, &mut loss)?;
        Ok(loss[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PRESETS;
    use crate::tape::cost::{Cost, total};

    #[test]
    fn every_workload_records_a_step_of_the_size_that_was_agreed() {
        // GFLOP per step on the reference page. Ours differ by elementwise operations and by skipped
        // padding. For the diagonal layer the page has 2.82, which includes the empty positions of a
        // skewed copy; this crate needs no such copy.
        let agreed = [
            ("pixelcnn-mnist", 20.9),
            ("pixelcnn-cifar", 84.3),
            ("gated-pixelcnn-mnist", 189.0),
            ("vae-mnist", 3.85),
            ("vae-mlp-mnist", 0.42),
            ("dcgan-cifar", 26.9),
            ("row-lstm-layer", 20.4),
            ("diagonal-bilstm-layer", 1.64),
            ("lstm-784", 19.9),
            (WGAN_GP, 26.8),
        ];
        assert_eq!(names(), agreed.map(|(name, _)| name.to_string()));
        assert!(FROM_PRESETS.iter().all(|name| PRESETS.iter().any(|preset| preset.name == *name)));
        for (name, gflop) in agreed {
            let workload = Workload::reference(name).unwrap();
            let cost: Cost = workload.plans.iter().map(total).sum();
            let ratio = cost.flops as f64 / 1e9 / gflop;
            assert!((0.75..1.25).contains(&ratio), "{name}: {:.2} GFLOP, not {gflop}", cost.flops as f64 / 1e9);
        }
    }

    #[test]
    fn every_combination_of_batch_and_size_is_a_workload_of_its_own() {
        let options = |names: &[&str], batches: &[usize], sides: &[usize]| Options {
            names: names.iter().map(|name| name.to_string()).collect(),
            batches: batches.to_vec(),
            sides: sides.to_vec(),
            ..Options::on_cpu(1)
        };
        let chosen = |o: &Options| choose(o).map(|all| all.into_iter().map(|c| c.name).collect::<Vec<_>>());
        let all = chosen(&options(&["pixelcnn-mnist"], &[1, 8], &[16, 32])).unwrap();
        let [small, large] = ["pixelcnn-mnist 16x16", "pixelcnn-mnist 32x32"];
        let each = [(small, 1), (small, 8), (large, 1), (large, 8)];
        assert_eq!(all, each.map(|(name, batch)| format!("{name} batch {batch}")));
        let workload = choose(&options(&["pixelcnn-mnist"], &[3], &[5])).unwrap()[0].workload().unwrap();
        assert_eq!((workload.shape().as_str(), workload.images), ("[3x5x5x1]", 3));
        for refused in [
            Options { model: Some(preset("lstm-rows-mnist").unwrap()), ..options(&[], &[], &[32]) },
            options(&["lstm-784"], &[8], &[]),
            options(&["vae-mnist"], &[0], &[]),
            options(&["vae"], &[8], &[]),
            Options { model: Some(preset("vae-mnist").unwrap()), ..options(&["vae-mnist"], &[], &[]) },
        ] {
            assert_eq!(chosen(&refused).unwrap_err().exit_code(), 2, "{refused:?}");
        }
    }

    #[test]
    fn the_classes_of_a_model_are_indices_below_their_number() {
        let mut config = preset("gated-pixelcnn-mnist").unwrap();
        (config.model.classes, config.batch) = (Some(10), 64);
        let batches = Workload::model(&config).unwrap().batches();
        let Values::Indices(labels) = &batches[0][0][1] else { panic!("labels are indices") };
        assert!(labels.iter().max() == Some(&9) && labels.contains(&0), "{labels:?}");
    }
}
