//! The layers of `src/`: a module may use the modules below it, but none above it.
//!
//! [`LAYERS`] lists the modules. The test scans the sources for paths that begin with `crate::` or a chain
//! of `super::` up to the root of the crate, outside of comments and literals.

use std::fmt;
use std::path::{Path, PathBuf};

/// The modules of `src/` from the lowest to the highest. Each module may use those before it in this list. A
/// new module is inserted where its own `use` lines allow it.
const LAYERS: &[&str] = &[
    "error",
    "panics",
    "shape",
    "rng",
    "math",
    "memory",
    "files",
    "store",
    "tape",
    "backend",
    "nn",
    "parameters",
    "data",
    "likelihood",
    "config",
    "optim",
    "models",
    "pictures",
    "check",
    "sampling",
    "control",
    "eval",
    "train",
    "report",
    "bench",
    "demo",
    "cli",
];

/// Names that `src/lib.rs` exports from a module.
const EXPORTED: &[(&str, &str)] = &[("Error", "error"), ("Result", "error")];

/// A use of a module that is not below the using module.
#[derive(Debug, PartialEq)]
struct Upward {
    file: PathBuf,
    line: usize,
    from: &'static str,
    to: String,
}

impl fmt::Display for Upward {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Upward { file, line, from, to } = self;
        write!(f, "{}:{line}: `{from}` uses `{to}`, which is not below it", file.display())
    }
}

fn place(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

/// The module of `src/` that a file belongs to: `tape` for `tape/op.rs` and for `tape.rs`.
fn module_of(relative: &Path) -> String {
    let first = relative.components().next().expect("a file has a name").as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").unwrap_or(&first).to_string()
}

/// `text` with every comment, and the inside of every string and character literal, replaced by spaces. Line
/// breaks are kept.
fn code_only(text: &str) -> String {
    let blank = |part: &str| part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>();
    let (mut out, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let word_before = out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if !word_before && (rest.starts_with("r\"") || rest.starts_with("r#\"")) => {
                let close = if rest.starts_with("r\"") { "\"" } else { "\"#" };
                let start = 1 + close.len();
                rest[start..].find(close).map_or(rest.len(), |end| start + end + close.len())
            }
            '"' => quoted(rest, '"'),
            // A lifetime has no closing quote after its first character.
            '\'' if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') => quoted(rest, '\''),
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        out += &blank(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

/// Bytes of the literal that `text` starts with, quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The first path segments after `crate::`: one name, or the names of a braced list.
fn first_segments(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut start) = (0, vec![], 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                names.push(name(list[start..at].trim_start()));
                start = at + 1;
            }
            '}' if depth == 0 => {
                names.push(name(list[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Every path of a file, in a `use` or fully qualified, that names a module which is not below the file's
/// module.
fn upward(relative: &Path, text: &str) -> Vec<Upward> {
    let module = module_of(relative);
    let from = LAYERS[place(&module).unwrap_or_else(|| panic!("`{module}` has no place in LAYERS of tests/layers.rs"))];
    let code = code_only(text);
    let mut found = vec![];
    // `super::`, repeated once per level of the file's module, is the root of the crate too.
    let depth = relative.components().count() - usize::from(relative.ends_with("mod.rs"));
    for root in ["crate::".to_string(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&root) {
            // `$crate::` in a macro counts. `pixtape_crate::` and a longer chain of `super::` do not.
            if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            for segment in first_segments(code[at + root.len()..].trim_start()) {
                let exported = EXPORTED.iter().find(|(name, _)| *name == segment);
                let to = exported.map_or(segment.as_str(), |(_, module)| module);
                // In an inline module such a `super` path ends one level lower, at items of the file itself.
                // These are not modules of the crate and are ignored.
                let unknown = root == "crate::";
                if to != from && place(to).map_or(unknown, |to| Some(to) > place(from)) {
                    let line = 1 + code[..at].matches('\n').count();
                    found.push(Upward { file: Path::new("src").join(relative), line, from, to: to.to_string() });
                }
            }
        }
    }
    found
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn no_module_uses_one_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    sources(&src, &mut files);
    files.sort();
    let inside = files.iter().filter_map(|file| Some((file, file.strip_prefix(&src).ok()?)));
    let modules =
        inside.filter(|(_, relative)| !["lib.rs", "main.rs", "allocator.rs"].contains(&relative.to_str().unwrap()));
    let found: Vec<String> = modules
        .flat_map(|(file, relative)| upward(relative, &std::fs::read_to_string(file).unwrap()))
        .map(|upward| upward.to_string())
        .collect();
    assert!(files.len() > LAYERS.len(), "only {} files in {}", files.len(), src.display());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_layer_exists() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for layer in LAYERS {
        assert!(src.join(layer).is_dir() || src.join(format!("{layer}.rs")).is_file(), "{layer}");
    }
}

#[test]
fn a_path_that_points_upwards_is_found_with_its_line() {
    let file = Path::new("tape/grad.rs");
    let seen = |text: &str| upward(file, text).iter().map(|found| (found.line, found.to.clone())).collect::<Vec<_>>();
    assert_eq!(seen("use crate::shape::Shape;\nuse crate::train;\n"), [(2, "train".to_string())]);
    assert_eq!(seen("fn f() {\n    crate::nn::Env::new()\n}"), [(2, "nn".to_string())]);
    assert_eq!(seen("use crate::{Error, rng::{self, Stream}, nn::{Env, Init}};"), [(1, "nn".to_string())]);
    assert_eq!(seen("use crate::{\n    shape::Shape,\n    data,\n};"), [(1, "data".to_string())]);
    assert_eq!(seen("macro_rules! m { () => { $crate::cli::run() } }"), [(1, "cli".to_string())]);
    assert_eq!(seen("use crate::no_such_module;"), [(1, "no_such_module".to_string())]);
    assert_eq!(seen("use super::super::optim;"), [(1, "optim".to_string())]);
    assert_eq!(seen("mod tests { use super::*; use super::train; }"), []);
    assert_eq!(seen("use crate::tape::op::Op;\nuse crate::{Result, shape};"), []);
    assert_eq!(seen("// use crate::nn;\n/* crate::nn */ const A: &str = \"crate::nn\"; const B: char = '\"';"), []);
    assert_eq!(
        upward(file, "use crate::nn;")[0].to_string(),
        "src/tape/grad.rs:1: `tape` uses `nn`, which is not below it"
    );
}
