//! All checks of the backends, in one place: the engines below run without checks of their own.
//!
//! [`Gate`] wraps an [`Engine`] (CPU, CUDA or wgpu) and is this crate's only [`Backend`]. It checks plans,
//! feeds, parameters and lengths. It owns the compiled plans, so it can free them and detect handles of
//! freed plans and of other devices. An engine may rely on every condition that its methods list after
//! "Checked".

use super::engine::Engine;
use super::{Backend, Compiled, DeviceInfo, Feed, Peaks, Progress, Scalars, StepTime};
use crate::error::{Error, Result};
use crate::tape::op::ParamId;
use crate::tape::plan::{Plan, PlanParam};
use crate::tape::window::SamplingPlan;
use std::sync::atomic::{AtomicU32, Ordering};

/// An engine with the checks in front of it.
pub struct Gate<E: Engine> {
    pub(super) engine: E,
    /// Number of the device, unique in the process. It detects handles of other devices.
    id: u32,
    places: Vec<Place<E::Compiled>>,
}

/// A place for one compiled plan. It is used again after the plan was freed.
struct Place<C> {
    /// Number of plans that were freed from this place. It detects handles of freed plans.
    generation: u32,
    /// `None` while the place is free.
    kept: Option<Kept<C>>,
}

/// A compiled plan.
struct Kept<C> {
    compiled: C,
    is_sampling: bool,
}

impl<E: Engine> Gate<E> {
    /// Wraps an engine. No plan is compiled yet.
    pub(super) fn over(engine: E) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Gate { engine, id: NEXT.fetch_add(1, Ordering::Relaxed), places: vec![] }
    }

    /// All compiled plans that are not freed.
    pub(super) fn compiled(&self) -> impl Iterator<Item = &E::Compiled> {
        self.places.iter().filter_map(|place| place.kept.as_ref()).map(|kept| &kept.compiled)
    }

    /// Returns the engine and the compiled plan of a handle, after it has checked that the feeds match the
    /// plan's inputs.
    ///
    /// # Errors
    /// Fails if the feeds do not match the inputs, or if the plan was compiled for sampling.
    ///
    /// # Panics
    /// Panics if the handle belongs to another device or to a plan that was freed.
    #[track_caller]
    pub(super) fn ready(&mut self, plan: Compiled, feeds: &[Feed]) -> Result<(&mut E, &mut E::Compiled)> {
        self.find(plan, Some(false), feeds)
    }

    /// Returns the engine and the compiled plan of a handle. If `is_sampling` is given, checks that the plan
    /// was compiled for sampling (or not) and that the feeds match its inputs.
    #[track_caller]
    fn find(
        &mut self,
        plan: Compiled,
        is_sampling: Option<bool>,
        feeds: &[Feed],
    ) -> Result<(&mut E, &mut E::Compiled)> {
        let Compiled { device, place, generation } = plan;
        assert!(device == self.id, "a plan that was compiled on device {device} is used on device {}", self.id);
        let there = &mut self.places[place as usize];
        let kept = there.kept.as_mut().filter(|_| there.generation == generation);
        let kept = kept.unwrap_or_else(|| panic!("a plan is used after it was freed"));
        if let Some(wanted) = is_sampling {
            let Plan { name, inputs, .. } = E::plan(&kept.compiled);
            if kept.is_sampling != wanted {
                let how = if wanted { "was not compiled for sampling" } else { "was compiled for sampling alone" };
                return Err(Error::Failed(format!("plan {name} {how}")));
            }
            if feeds.len() != inputs.len() {
                let (want, got) = (inputs.len(), feeds.len());
                return Err(Error::Failed(format!("plan {name} takes {want} inputs, got {got}")));
            }
            for (feed, input) in feeds.iter().zip(inputs) {
                let (want, got) = (input.meta.shape, feed.words().len());
                if want.len() != got {
                    return Err(Error::Failed(format!(
                        "input {} of plan {name} is {want}, got {got} elements",
                        input.name
                    )));
                }
                if input.meta.dtype != feed.dtype() {
                    let (want, got) = (input.meta.dtype, feed.dtype());
                    return Err(Error::Failed(format!("input {} of plan {name} is {want:?}, got {got:?}", input.name)));
                }
            }
        }
        Ok((&mut self.engine, &mut kept.compiled))
    }

    /// Checks that every parameter of a plan has a value of its declared length.
    fn check_params(&self, plan: &Plan) -> Result<()> {
        for PlanParam { id, meta, name } in &plan.params {
            if self.engine.param_len(*id) != Some(meta.shape.len()) {
                return Err(Error::Failed(format!("parameter {name} has no value of shape {}", meta.shape)));
            }
        }
        Ok(())
    }

    /// Stores a compiled plan and returns its handle.
    fn keep(&mut self, compiled: E::Compiled, is_sampling: bool) -> Compiled {
        let free = self.places.iter().position(|place| place.kept.is_none());
        let place = free.unwrap_or_else(|| {
            self.places.push(Place { generation: 0, kept: None });
            self.places.len() - 1
        });
        self.places[place].kept = Some(Kept { compiled, is_sampling });
        Compiled { device: self.id, place: place as u32, generation: self.places[place].generation }
    }

    /// Frees every plan.
    pub(super) fn free_all(&mut self) {
        for place in &mut self.places {
            if let Some(kept) = place.kept.take() {
                place.generation += 1;
                self.engine.release(kept.compiled);
            }
        }
    }
}

impl<E: Engine> Drop for Gate<E> {
    fn drop(&mut self) {
        self.free_all();
    }
}

/// The error for a plan that fails its checks, which is a bug in this crate.
fn broken(name: &str, why: &str) -> Error {
    Error::Failed(format!("the plan {name} is broken: {why}; please report this as a bug in pixtape"))
}

impl<E: Engine> Backend for Gate<E> {
    fn describe(&self) -> DeviceInfo {
        self.engine.describe()
    }

    fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
        match self.engine.param_len(id) {
            Some(len) if len != value.len() => {
                Err(Error::Failed(format!("parameter {} has {len} elements, got {}", id.0, value.len())))
            }
            _ => self.engine.write_param(id, value),
        }
    }

    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> Result<()> {
        match self.engine.param_len(id) {
            None => Err(Error::Failed(format!("parameter {} has no value yet", id.0))),
            Some(len) if len != into.len() => {
                Err(Error::Failed(format!("parameter {} has {len} elements, asked for {}", id.0, into.len())))
            }
            Some(_) => self.engine.read_param(id, into),
        }
    }

    fn compile(&mut self, plan: &Plan) -> Result<Compiled> {
        plan.check().map_err(|why| broken(&plan.name, &why))?;
        self.engine.check_precision(plan.precision)?;
        self.check_params(plan)?;
        let compiled = self.engine.compile(plan)?;
        Ok(self.keep(compiled, false))
    }

    fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<Compiled>> {
        plan.check().map_err(|why| broken(&plan.plan.name, &why))?;
        self.check_params(&plan.plan)?;
        let compiled = self.engine.compile_sampling(plan)?;
        Ok(compiled.map(|compiled| self.keep(compiled, true)))
    }

    fn free(&mut self, plan: Compiled) {
        // `find` panics if the handle belongs to another device or to a plan that was freed.
        let _ = self.find(plan, None, &[]);
        let place = &mut self.places[plan.place as usize];
        place.generation += 1;
        if let Some(kept) = place.kept.take() {
            self.engine.release(kept.compiled);
        }
    }

    fn run(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<()> {
        let (engine, compiled) = self.ready(plan, feeds)?;
        engine.run(compiled, feeds, scalars)
    }

    fn read_words(&mut self, plan: Compiled, output: usize, into: &mut [u32]) -> Result<()> {
        let (engine, compiled) = self.find(plan, None, &[])?;
        let Plan { name, outputs, .. } = E::plan(compiled);
        let Some((what, operand)) = outputs.get(output) else {
            return Err(Error::Failed(format!("plan {name} has {} outputs, asked for number {output}", outputs.len())));
        };
        let len = operand.meta.shape.len();
        if into.len() != len {
            return Err(Error::Failed(format!("output {what} has {len} elements, asked for {}", into.len())));
        }
        engine.read_words(compiled, output, into)
    }

    fn profile(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> Result<Vec<StepTime>> {
        let (engine, compiled) = self.ready(plan, feeds)?;
        engine.profile(compiled, feeds, scalars)
    }

    fn sampling_bytes(&self) -> Option<usize> {
        self.engine.sampling_bytes()
    }

    fn sample(
        &mut self,
        plan: Compiled,
        feeds: &[Feed],
        from: usize,
        scalars: &Scalars,
        progress: &Progress,
    ) -> Result<()> {
        let (engine, compiled) = self.find(plan, Some(true), feeds)?;
        engine.sample(compiled, feeds, from, scalars, progress)
    }

    fn memory_bytes(&self) -> usize {
        self.engine.param_bytes() + self.compiled().map(|compiled| self.engine.plan_bytes(compiled)).sum::<usize>()
    }

    fn peaks(&mut self) -> Result<Option<Peaks>> {
        self.engine.peaks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Isa;
    use crate::shape::Meta;
    use crate::tape::geometry::Mask;
    use crate::tape::op::{Param, Scalar};
    use crate::tape::plan::Precision;
    use crate::tape::record::ConvAttrs;
    use crate::tape::{InputRole, Tape};
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::rc::Rc;

    /// An engine that computes nothing and counts the calls that reach it.
    #[derive(Default)]
    struct Fake {
        params: HashMap<ParamId, usize>,
        reached: Rc<Cell<usize>>,
        released: Rc<Cell<usize>>,
    }

    impl Fake {
        fn reach(&self) {
            self.reached.set(self.reached.get() + 1);
        }
    }

    impl Engine for Fake {
        type Compiled = Plan;

        fn describe(&self) -> DeviceInfo {
            DeviceInfo { kind: "fake".into(), name: "fake".into(), detail: String::new(), threads: 0 }
        }
        fn param_len(&self, id: ParamId) -> Option<usize> {
            self.params.get(&id).copied()
        }
        fn write_param(&mut self, id: ParamId, value: &[f32]) -> Result<()> {
            self.params.insert(id, value.len());
            Ok(())
        }
        fn read_param(&mut self, _: ParamId, _: &mut [f32]) -> Result<()> {
            self.reach();
            Ok(())
        }
        fn compile(&mut self, plan: &Plan) -> Result<Plan> {
            self.reach();
            Ok(plan.clone())
        }
        fn compile_sampling(&mut self, plan: &SamplingPlan) -> Result<Option<Plan>> {
            self.reach();
            Ok(Some(plan.plan.clone()))
        }
        fn plan(compiled: &Plan) -> &Plan {
            compiled
        }
        fn run(&mut self, _: &mut Plan, _: &[Feed], _: &Scalars) -> Result<()> {
            self.reach();
            Ok(())
        }
        fn profile(&mut self, _: &mut Plan, _: &[Feed], _: &Scalars) -> Result<Vec<StepTime>> {
            self.reach();
            Ok(vec![])
        }
        fn sample(&mut self, _: &mut Plan, _: &[Feed], _: usize, _: &Scalars, _: &Progress) -> Result<()> {
            self.reach();
            Ok(())
        }
        fn read_words(&mut self, _: &mut Plan, _: usize, _: &mut [u32]) -> Result<()> {
            self.reach();
            Ok(())
        }
        fn release(&mut self, _: Plan) {
            self.released.set(self.released.get() + 1);
        }
        fn plan_bytes(&self, plan: &Plan) -> usize {
            plan.slot_bytes()
        }
        fn param_bytes(&self) -> usize {
            0
        }
    }

    /// A gate over a fake engine, and the number of calls that reached the engine.
    fn fake() -> (Gate<Fake>, Rc<Cell<usize>>) {
        let engine = Fake::default();
        let reached = engine.reached.clone();
        (Gate::over(engine), reached)
    }

    /// `x[2, 3, 3, 1]` through a masked convolution with the parameter 0, then a draw.
    fn plan() -> Plan {
        let t = Tape::new();
        let x = t.input_of(InputRole::Images, Meta::f32([2, 3, 3, 1]));
        let weight = Param { id: ParamId(0), path: "weight".into(), shape: [3, 3, 1, 1].into() };
        let y = t.conv(x, t.param(&weight), ConvAttrs::masked(Mask::A, 3, 1));
        let u = t.fill(0.5, t.shape(y));
        t.output("draw", t.bernoulli(y, u, t.scalar(Scalar::f32("Temperature", 1.0))));
        Plan::new("test", &t)
    }

    /// Every device that can be opened on this machine; the fake one is the first.
    fn devices() -> Vec<Box<dyn Backend>> {
        let mut all: Vec<Box<dyn Backend>> = vec![Box::new(fake().0)];
        let opened = ["cpu", "cuda", "wgpu"].map(|name| crate::backend::open(name, 1));
        all.extend(opened.into_iter().flatten());
        assert!(all.len() > 1, "not even the CPU opens");
        all
    }

    /// Whether the call failed with a message that contains `part`.
    #[track_caller]
    fn fails<T>(result: Result<T>, part: &str) {
        let why = result.err().expect("it is refused").to_string();
        assert!(why.contains(part), "{why}");
    }

    #[test]
    fn a_device_refuses_a_precision_that_it_does_not_compute_in() {
        for mut device in devices() {
            device.write_param(ParamId(0), &[0.1; 9]).unwrap();
            let kind = device.describe().kind;
            let result = device.compile(&plan().in_precision(Precision::Bf16));
            if kind == "cpu" {
                assert_eq!(result.is_ok(), Isa::detect().has_bf16());
            } else {
                fails(result, &format!("the {kind} backend does not compute in bf16"));
            }
        }
    }

    #[test]
    fn no_device_compiles_a_plan_that_does_not_hold_to_its_checks() {
        let sampling = SamplingPlan::new(&plan()).unwrap();
        let mut short = plan();
        short.slots[0].len = 1;
        let mut outside = sampling.clone();
        outside.windows[0].rows = [3, 4];
        for mut device in devices() {
            device.write_param(ParamId(0), &[0.1; 9]).unwrap();
            fails(device.compile(&short), "the plan test is broken: step 0");
            fails(device.compile_sampling(&outside), "reaches beyond");
            // A plan that passes the checks reaches the engine.
            device.compile(&plan()).unwrap();
            device.compile_sampling(&sampling).unwrap();
        }
        let (mut gate, reached) = fake();
        gate.write_param(ParamId(0), &[0.1; 9]).unwrap();
        assert!(gate.compile(&short).is_err() && gate.compile_sampling(&outside).is_err());
        assert_eq!(reached.get(), 0);
    }

    #[test]
    fn parameters_have_one_length() {
        for mut device in devices() {
            fails(device.compile(&plan()), "parameter weight has no value of shape [3x3x1x1]");
            fails(device.read_param(ParamId(0), &mut [0.0; 9]), "parameter 0 has no value yet");
            device.write_param(ParamId(0), &[0.1; 8]).unwrap();
            fails(device.write_param(ParamId(0), &[0.1; 9]), "parameter 0 has 8 elements, got 9");
            fails(device.read_param(ParamId(0), &mut [0.0; 9]), "parameter 0 has 8 elements, asked for 9");
            fails(device.compile(&plan()), "parameter weight has no value of shape [3x3x1x1]");
            fails(device.compile_sampling(&SamplingPlan::new(&plan()).unwrap()), "has no value of shape");
        }
    }

    #[test]
    fn feeds_and_outputs_fit_the_plan() {
        let (x, scalars) = ([0.5; 18], Scalars::default());
        for mut device in devices() {
            device.write_param(ParamId(0), &[0.1; 9]).unwrap();
            let compiled = device.compile(&plan()).unwrap();
            device.run(compiled, &[Feed::F32(&x)], &scalars).unwrap();
            device.read_words(compiled, 0, &mut [0; 18]).unwrap();
            fails(device.run(compiled, &[], &scalars), "plan test takes 1 inputs, got 0");
            fails(device.run(compiled, &[Feed::F32(&x[1..])], &scalars), "input x of plan test is [2x3x3x1], got 17");
            fails(device.profile(compiled, &[Feed::U32(&[0; 18])], &scalars), "input x of plan test is F32, got U32");
            fails(device.read_words(compiled, 0, &mut [0; 17]), "output draw has 18 elements, asked for 17");
            fails(device.read_words(compiled, 1, &mut [0; 18]), "plan test has 1 outputs, asked for number 1");
            fails(device.sample(compiled, &[Feed::F32(&x)], 0, &scalars, &|_| {}), "was not compiled for sampling");
            let sampled = device.compile_sampling(&SamplingPlan::new(&plan()).unwrap()).unwrap().unwrap();
            device.sample(sampled, &[Feed::F32(&x)], 0, &scalars, &|_| {}).unwrap();
            fails(device.sample(sampled, &[], 0, &scalars, &|_| {}), "takes 1 inputs");
            fails(device.run(sampled, &[Feed::F32(&x)], &scalars), "plan test was compiled for sampling alone");
        }
    }

    #[test]
    fn what_is_freed_gives_its_memory_back() {
        for mut device in devices() {
            device.write_param(ParamId(0), &[0.1; 9]).unwrap();
            let before = device.memory_bytes();
            let first = device.compile(&plan()).unwrap();
            assert!(device.memory_bytes() > before);
            device.free(first);
            assert_eq!(device.memory_bytes(), before);
            // The next plan takes the free place and gets a different handle.
            let second = device.compile(&plan()).unwrap();
            assert!(first != second && first.place == second.place);
            device.run(second, &[Feed::F32(&[0.5; 18])], &Scalars::default()).unwrap();
        }
        let (mut gate, _) = fake();
        gate.write_param(ParamId(0), &[0.1; 9]).unwrap();
        let released = gate.engine.released.clone();
        let first = gate.compile(&plan()).unwrap();
        gate.compile(&plan()).unwrap();
        gate.free(first);
        assert_eq!(released.get(), 1);
        drop(gate);
        assert_eq!(released.get(), 2);
    }

    #[test]
    #[should_panic = "a plan is used after it was freed"]
    fn a_freed_plan_is_not_used_again() {
        let (mut gate, _) = fake();
        gate.write_param(ParamId(0), &[0.1; 9]).unwrap();
        let first = gate.compile(&plan()).unwrap();
        gate.free(first);
        gate.compile(&plan()).unwrap();
        let _ = gate.run(first, &[Feed::F32(&[0.5; 18])], &Scalars::default());
    }

    #[test]
    #[should_panic = "is used on device"]
    fn a_plan_of_another_device_is_not_used() {
        let [(mut here, _), (mut there, _)] = [fake(), fake()];
        here.write_param(ParamId(0), &[0.1; 9]).unwrap();
        let compiled = here.compile(&plan()).unwrap();
        let _ = there.read_words(compiled, 0, &mut [0; 18]);
    }
}
