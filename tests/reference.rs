//! `pixtape check FILE`: the reference cases pass, and errors in a file are found.
//!
//! Some tests need the real file, which `PIXTAPE_REFERENCE` names; without it they print SKIP. The others
//! damage a small file, run the built-in cases, and verify that every op has a reference case.

use pixtape::backend::cpu::{Cpu, Options};
use pixtape::backend::{Backend, Compiled, DeviceInfo, Feed, Scalars, StepTime};
use pixtape::check::builtin::{builtin_cases, run_builtin};
use pixtape::check::case::Order;
use pixtape::check::cases::cases;
use pixtape::check::elements::Values;
use pixtape::check::reference::{
    CaseFile, OPS, ReferenceCase, Report, Row, Tensor, check, fuzz_parse, page_rows, run, run_file,
};
use pixtape::tape::op::{ParamId, Unary};
use pixtape::tape::plan::Plan;
use proptest::prelude::*;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

fn cpu() -> Cpu {
    Cpu::new(Options { threads: 2, poison: true, ..Default::default() }).expect("a CPU")
}

/// The real file, or `None` with the reason printed.
fn reference() -> Option<PathBuf> {
    let path = std::env::var_os("PIXTAPE_REFERENCE").map(PathBuf::from);
    if path.is_none() {
        let required = std::env::var("PIXTAPE_REQUIRE").unwrap_or_default();
        let is_required = required.split(',').any(|r| r == "reference");
        assert!(!is_required, "PIXTAPE_REFERENCE is not set, but PIXTAPE_REQUIRE asks for it");
        println!("SKIP: PIXTAPE_REFERENCE is not set");
    }
    path
}

fn known() -> Vec<String> {
    OPS.map(String::from).into()
}

#[test]
fn every_case_of_a_known_op_passes() {
    let Some(path) = reference() else { return };
    let report = run_file(&path, &known(), &mut cpu()).unwrap();
    println!("{report}");
    assert!(report.pass(), "{report}");
    // A file that is older than an op has no case of that op. Another test verifies that the built-in cases
    // cover every op.
    assert!(report.cases.len() >= 60, "{} cases", report.cases.len());
}

#[test]
fn one_changed_number_fails_its_case_and_no_other() {
    let Some(path) = reference() else { return };
    let mut file = CaseFile::load(&path).unwrap();
    file.cases.retain(|case| OPS.contains(&case.op.as_str()));
    for case in 0..file.cases.len() {
        let good = file.cases[case].clone();
        for name in good.tensors.keys() {
            let mut bad = good.clone();
            if !change(bad.tensors.get_mut(name).unwrap()) {
                continue;
            }
            let row = check(&bad, &mut cpu());
            // Some cotangents and inputs do not influence any result, e.g. a closed weight or an input that
            // relu sets to zero.
            if name.starts_with("out/") || name.starts_with("grad/") {
                assert!(!row.pass && row.error.is_some(), "{name} of {} was changed: {row}", good.name);
            }
            let mut bad = good.clone();
            bad.tensors.remove(name);
            let optional = name == "in/bias";
            let row = check(&bad, &mut cpu());
            assert!(!row.pass, "{name} of {} is missing: {row}", good.name);
            assert!(optional || row.error.unwrap().contains(&format!("{name} is missing")), "{name} of {}", good.name);
        }
    }
}

/// Changes the largest number of a tensor slightly. Returns `false` if all numbers are zero.
fn change(tensor: &mut Tensor) -> bool {
    match &mut tensor.values {
        Values::F32(v) => match v.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())) {
            Some(x) if *x != 0.0 => {
                *x *= 1.05;
                true
            }
            _ => false,
        },
        Values::U32(v) => {
            v[0] ^= 1;
            true
        }
    }
}

#[test]
fn a_file_with_one_changed_value_fails() {
    let Some(path) = reference() else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    let (header, _) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = parsed.tensor("matmul_nn/out/y").unwrap().data();
    let at = data.as_ptr() as usize - bytes.as_ptr() as usize;
    assert!(at > header);
    // Flips the sign of the first element.
    bytes[at + 3] ^= 0x80;
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("changed.safetensors");
    std::fs::write(&changed, &bytes).unwrap();
    let report = run_file(&changed, &["matmul".to_string()], &mut cpu()).unwrap();
    let failed: Vec<&Row> = report.cases.iter().filter(|row| !row.pass).collect();
    assert_eq!(failed.len(), 1, "{report}");
    assert_eq!(failed[0].name, "matmul_nn");
    assert!(!report.pass() && failed[0].error.as_ref().unwrap().contains("out/y is off by"), "{report}");
}

/// A small case that passes: y = x w^T + b.
fn linear() -> ReferenceCase {
    let tensor =
        |shape: &[usize], values: &[f32]| Tensor { shape: shape.to_vec(), values: Values::F32(values.to_vec()) };
    let tensors = BTreeMap::from([
        ("in/x".to_string(), tensor(&[1, 2], &[1.0, 2.0])),
        ("in/weight".to_string(), tensor(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0])),
        ("in/bias".to_string(), tensor(&[3], &[0.5, 0.0, -1.0])),
        ("out/y".to_string(), tensor(&[1, 3], &[1.5, 2.0, 2.0])),
        ("cot/y".to_string(), tensor(&[1, 3], &[1.0, 0.0, 2.0])),
        ("grad/x".to_string(), tensor(&[1, 2], &[3.0, 2.0])),
        ("grad/weight".to_string(), tensor(&[3, 2], &[1.0, 2.0, 0.0, 0.0, 2.0, 4.0])),
        ("grad/bias".to_string(), tensor(&[3], &[1.0, 0.0, 2.0])),
    ]);
    ReferenceCase {
        name: "a".into(),
        op: "linear".into(),
        attrs: Default::default(),
        tol: 1e-5,
        grad_tol: 1e-4,
        tensors,
    }
}

fn complaint(case: &ReferenceCase) -> String {
    let row = check(case, &mut cpu());
    assert!(!row.pass, "{row}");
    row.error.expect("a failure has a reason")
}

#[test]
fn a_case_that_makes_no_sense_is_a_sentence() {
    assert!(check(&linear(), &mut cpu()).pass);
    let with = |name: &str, tensor: Tensor| {
        let mut case = linear();
        case.tensors.insert(name.to_string(), tensor);
        complaint(&case)
    };
    let zeros =
        |shape: &[usize]| Tensor { shape: shape.to_vec(), values: Values::F32(vec![0.0; shape.iter().product()]) };
    let index = Tensor { shape: vec![3], values: Values::U32(vec![0; 3]) };
    assert_eq!(with("in/bias", zeros(&[4])), "its tensor in/bias has the shape [4], not [3]");
    assert_eq!(with("in/weight", zeros(&[3, 5])), "its tensor in/weight has the shape [3, 5], not [o, 2]");
    assert_eq!(with("in/x", zeros(&[1, 2, 1])), "its tensor in/x has the shape [1, 2, 1], not [n, i]");
    assert_eq!(with("in/x", zeros(&[0, 2])), "its tensor in/x is empty (shape [0, 2])");
    assert!(with("out/y", zeros(&[3, 1])).starts_with("its tensor out/y has the shape [3, 1]"));
    assert!(with("cot/y", zeros(&[3])).starts_with("its tensor cot/y has the shape [3]"));
    assert!(with("grad/x", zeros(&[2])).starts_with("its tensor grad/x has the shape [2]"));
    assert_eq!(with("in/bias", index), "its tensor in/bias must be F32");
    assert_eq!(with("in/scale", zeros(&[1])), "it has a tensor in/scale that linear does not know");
    let nan = Tensor { shape: vec![1, 3], values: Values::F32(vec![f32::NAN; 3]) };
    assert!(with("out/y", nan).contains("out/y is off by NaN"));
    let unknown = complaint(&ReferenceCase { op: "linaer".into(), ..linear() });
    assert!(unknown.starts_with(r#"its op "linaer" is unknown; known are conv2d"#), "{unknown}");
    let mut without = linear();
    without.tensors.remove("cot/y");
    assert_eq!(complaint(&without), "it has gradients, but its tensor cot/y is missing");
    without.tensors.retain(|name, _| !name.starts_with("grad/"));
    assert!(check(&without, &mut cpu()).pass, "gradients may be left out");
}

#[test]
fn attributes_that_make_no_sense_are_sentences() {
    let conv = |attrs: serde_json::Value| {
        let mut case = linear();
        let zeros =
            |shape: &[usize]| Tensor { shape: shape.to_vec(), values: Values::F32(vec![0.0; shape.iter().product()]) };
        case.tensors = BTreeMap::from([
            ("in/x".to_string(), zeros(&[1, 2, 3, 3])),
            ("in/weight".to_string(), zeros(&[2, 2, 3, 3])),
            ("out/y".to_string(), zeros(&[1, 2, 1, 1])),
        ]);
        case.attrs = attrs.as_object().unwrap().clone();
        case
    };
    for op in ["conv2d", "conv_transpose2d"] {
        for attrs in [
            json!({"stride": 0}),
            json!({"stride": -1}),
            json!({"stride": 1.5}),
            json!({"padding": 4_000_000_000_000u64}),
            json!({"padding": [1]}),
            json!({"padding": [1, 2, 3]}),
            json!({"padding": "same"}),
            json!({"padding": 1_000_000, "stride": 1_000_000}),
        ] {
            let case = ReferenceCase { op: op.into(), ..conv(attrs.clone()) };
            let why = complaint(&case);
            assert!(why.starts_with("its "), "{op} {attrs}: {why}");
        }
    }
    for attrs in [
        json!({"mask": "C"}),
        json!({"mask": 1}),
        json!({"mask": "A", "groups_c": 0}),
        json!({"mask": "A", "blocks": 3}),
    ] {
        complaint(&ReferenceCase { op: "conv2d".into(), ..conv(attrs) });
    }
    assert!(check(&ReferenceCase { op: "conv2d".into(), ..conv(json!({})) }, &mut cpu()).pass);
    complaint(&ReferenceCase { op: "conv_transpose2d".into(), ..conv(json!({"output_padding": 1})) });
}

/// The bytes of a file with one linear case and these metadata.
fn bytes(metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut data = vec![];
    for (name, tensor) in linear().tensors {
        let Values::F32(values) = tensor.values else { unreachable!("all are floats") };
        data.push((format!("a/{name}"), tensor.shape, bytemuck::cast_slice::<f32, u8>(&values).to_vec()));
    }
    let views = data
        .iter()
        .map(|(name, shape, data)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

const LIST: &str = r#"[{"name":"a","op":"linear","attrs":{},"tol":1e-5,"grad_tol":1e-4}]"#;

fn good() -> Vec<u8> {
    bytes(&[("format", "pixtape-cases"), ("version", "1"), ("cases", LIST)])
}

fn parse(bytes: &[u8]) -> Result<CaseFile, String> {
    CaseFile::parse(Path::new("f"), bytes).map_err(|e| e.to_string())
}

#[test]
fn a_sound_file_is_read() {
    let file = parse(&good()).unwrap();
    assert_eq!(file.cases, [linear()]);
    let report = run(Path::new("f"), &file, &[], &mut cpu()).unwrap();
    assert!(report.pass(), "{report}");
    let none = run(Path::new("f"), &file, &["conv2d".to_string()], &mut cpu()).unwrap_err().to_string();
    assert_eq!(none, "f: it has no case of conv2d; choose among its ops: linear");
    assert!(!Report { cases: vec![], ..report }.pass(), "no case is no proof");
}

#[test]
fn the_report_is_json() {
    let report = run(Path::new("f"), &parse(&good()).unwrap(), &[], &mut cpu()).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["device"], &json["precision"]), (&json!("cpu"), &json!("f32")));
    let row = json["cases"][0].as_object().unwrap();
    assert_eq!(row.keys().map(String::as_str).collect::<Vec<_>>(), ["error", "name", "op", "pass", "tol", "worst"]);
    assert_eq!((&row["name"], &row["pass"], &row["error"]), (&json!("a"), &json!(true), &json!(null)));
}

#[test]
fn damaged_files_are_sentences() {
    let cases = [
        (
            vec![("format", "pixtape-cases"), ("version", "2"), ("cases", LIST)],
            "it was written by a newer pixtape (version 2)",
        ),
        (vec![("format", "pixtape-cases"), ("version", "x"), ("cases", LIST)], "no version that pixtape knows"),
        (
            vec![("format", "pixtape-checkpoint"), ("version", "1")],
            r#"it is a "pixtape-checkpoint" file, not a file of reference"#,
        ),
        (vec![("format", "pixtape-cases"), ("version", "1")], "its metadata have no `cases`"),
        (vec![("format", "pixtape-cases"), ("version", "1"), ("cases", "[]")], "it lists no case"),
        (vec![("format", "pixtape-cases"), ("version", "1"), ("cases", "{")], "its list of cases cannot be read"),
        (
            vec![("format", "pixtape-cases"), ("version", "1"), ("cases", r#"[{"name":"b","op":"linear","tol":1}]"#)],
            "tensors of a case \"a\"",
        ),
    ];
    for (metadata, want) in cases {
        let why = parse(&bytes(&metadata)).unwrap_err();
        assert!(why.starts_with("f: ") && why.contains(want), "{why}");
    }
    let twice = LIST.replace(']', &format!(",{}", &LIST[1..]));
    let why = parse(&bytes(&[("format", "pixtape-cases"), ("version", "1"), ("cases", &twice)])).unwrap_err();
    assert!(why.contains(r#"it lists the case "a" twice"#), "{why}");
}

#[test]
fn every_truncation_is_an_error() {
    let good = good();
    for length in 0..good.len() {
        assert!(parse(&good[..length]).is_err(), "{length} of {} bytes", good.len());
    }
    let longer = [&good[..], &[0]].concat();
    assert!(parse(&longer).is_err());
    let mut huge = good;
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(parse(&huge).unwrap_err().contains("truncated"));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = fuzz_parse(&bytes);
    }

    #[test]
    fn flipped_bytes_are_survived(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = good();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = fuzz_parse(&bytes);
    }

    /// A case with any changed shapes and attributes gets a verdict, without a panic.
    #[test]
    fn any_case_has_a_verdict(
        case in any::<prop::sample::Index>(),
        shapes in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(0usize..6, 0..5)), 0..3),
        attrs in prop::collection::vec((any::<prop::sample::Index>(), attribute()), 0..3),
    ) {
        let cases = builtin_cases().unwrap().cases;
        let mut case = case.get(&cases).clone();
        for (at, shape) in shapes {
            let tensor = at.get(&case.tensors.keys().cloned().collect::<Vec<_>>()).clone();
            let len = shape.iter().product();
            let values = if tensor.ends_with("target") { Values::U32(vec![1; len]) } else { Values::F32(vec![0.5; len]) };
            case.tensors.insert(tensor, Tensor { shape, values });
        }
        for (at, value) in attrs {
            if !case.attrs.is_empty() {
                let name = at.get(&case.attrs.keys().cloned().collect::<Vec<_>>()).clone();
                case.attrs.insert(name, value);
            }
        }
        let row = check(&case, &mut cpu());
        prop_assert_eq!(row.pass, row.error.is_none());
    }
}

/// Small and absurdly large integers, pairs, words, fractions and null.
fn attribute() -> impl Strategy<Value = serde_json::Value> {
    let number = prop_oneof![0u64..5, Just(1 << 20), Just(u64::MAX)];
    prop_oneof![
        number.clone().prop_map(|n| json!(n)),
        (number.clone(), number).prop_map(|(a, b)| json!([a, b])),
        prop::sample::select(vec!["none", "A", "B", "relu", "sum", "mean", ""]).prop_map(|word| json!(word)),
        Just(json!(null)),
        Just(json!(-0.5)),
        Just(json!(1e300)),
    ]
}

#[test]
fn the_built_in_cases_pass_and_know_every_op() {
    let report = run_builtin(&[], &mut cpu()).unwrap();
    assert!(report.pass(), "{report}");
    for op in OPS {
        let some = run_builtin(&[op.to_string()], &mut cpu()).unwrap();
        assert!(some.pass() && some.cases.iter().all(|row| row.op == op), "{op}: {some}");
    }
    let unknown = run_builtin(&["linaer".to_string()], &mut cpu()).unwrap_err();
    assert_eq!(unknown.exit_code(), 2);
    assert!(unknown.to_string().starts_with("no built-in case of linaer; known are conv2d, "), "{unknown}");
}

/// Every op of the tape is compared with values of PyTorch, under its own name or as a part of another op,
/// or is listed as an op without a counterpart in PyTorch.
#[test]
fn every_op_has_a_reference_case_or_none_to_have() {
    // Ops without a counterpart: they hold a value, move elements, round, or use our own random numbers.
    const WITHOUT: [&str; 19] = [
        "input",
        "param",
        "scalar",
        "fill",
        "affine",
        "clamp",
        "quantize",
        "dequantize",
        "reshape",
        "detach",
        "pad",
        "slice",
        "gather",
        "scatter",
        "random",
        "gaussian_sample",
        "bernoulli",
        "ema",
        "store",
    ];
    // Ops that have a case under another name, or are a part of another case.
    const WITHIN: [(&str, &str); 6] = [
        ("conv", "conv2d"),
        ("conv_dx", "conv_transpose2d"),
        ("conv_dw", "conv2d"),
        ("sum", "gradient_penalty"),
        ("expand", "linear"),
        ("binary", "diagonal_bilstm"),
    ];
    let word =
        |op: &str| WITHIN.iter().find(|(name, _)| *name == op).map_or(op.to_string(), |(_, word)| word.to_string());
    for case in cases() {
        // A `_bwd` op is tested with its forward op, and an `_infer` op with the normalisation that computes
        // the statistics.
        let op = case.op.trim_end_matches("_bwd").trim_end_matches("_infer");
        let known = WITHOUT.contains(&op) || OPS.contains(&word(op).as_str());
        assert!(known, "{op} is no op of a reference case: add it to the table of src/check/reference/ops.rs");
    }
}

/// Each elementwise function has a built-in case, and the page about the format has the table of ops.
#[test]
fn functions_and_the_page_are_complete() {
    let builtin = builtin_cases().unwrap();
    for f in Unary::EACH {
        let of_f = |case: &&ReferenceCase| case.op == "unary" && case.attrs["kind"] == f.name();
        assert!(builtin.cases.iter().any(|case| of_f(&case)), "tests/reference/make_cases.py has no case of {f}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference-cases.md");
    let page = std::fs::read_to_string(path).unwrap();
    let head = "| op | inputs -> outputs | attributes |\n|---|---|---|\n";
    let (before, rest) = page.split_once(head).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let rows = page_rows();
    let wanted = format!("{before}{head}{rows}\n{after}");
    if std::env::var_os("PIXTAPE_BLESS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert!(page == wanted, "{path} has another table than src/check/reference/ops.rs; PIXTAPE_BLESS=1 writes it anew");
}

/// A device that returns one slightly wrong number in each output.
struct Wrong(Cpu);

impl Backend for Wrong {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo { kind: "wrong".into(), ..self.0.describe() }
    }
    fn write_param(&mut self, id: ParamId, value: &[f32]) -> pixtape::Result<()> {
        self.0.write_param(id, value)
    }
    fn read_param(&mut self, id: ParamId, into: &mut [f32]) -> pixtape::Result<()> {
        self.0.read_param(id, into)
    }
    fn compile(&mut self, plan: &Plan) -> pixtape::Result<Compiled> {
        self.0.compile(plan)
    }
    fn free(&mut self, plan: Compiled) {
        self.0.free(plan);
    }
    fn run(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> pixtape::Result<()> {
        self.0.run(plan, feeds, scalars)
    }
    fn read_words(&mut self, plan: Compiled, output: usize, into: &mut [u32]) -> pixtape::Result<()> {
        self.0.read_words(plan, output, into)?;
        // The error is a thousandth of the norm, or of 1 if the norm is smaller, for every type: a relative
        // error of 1e-3.
        let norm = into.iter().map(|w| f32::from_bits(*w).powi(2)).sum::<f32>().sqrt();
        if let Some(first) = into.first_mut() {
            *first = (f32::from_bits(*first) + 1e-3 * norm.max(1.0)).to_bits();
        }
        Ok(())
    }
    fn profile(&mut self, plan: Compiled, feeds: &[Feed], scalars: &Scalars) -> pixtape::Result<Vec<StepTime>> {
        self.0.profile(plan, feeds, scalars)
    }
    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

#[test]
fn a_device_that_is_slightly_wrong_fails_every_case() {
    let report = run_builtin(&[], &mut Wrong(cpu())).unwrap();
    assert_eq!(report.device, "wrong");
    let table = report.cases.iter().filter(|row| row.name.starts_with("conv_dw/") && row.name.ends_with("''"));
    assert!(table.count() > 30, "the case table is part of it");
    let table = cases();
    for row in report.cases.iter().filter(|row| row.pass) {
        let name = row.name.trim_end_matches('\'');
        let order = [Order::Zero, Order::Once, Order::Twice][row.name.len() - name.len()];
        let case = table.iter().find(|case| case.name == name).expect("no built-in case passes");
        let problem = case.problem(order, 1, 0);
        let elements: usize = problem.results.iter().map(|(_, v)| problem.tape.shape(*v).len()).sum();
        assert_eq!(elements, 0, "{row}");
    }
}
