//! The documentation names only what exists: files, tests, and the functions and types of `docs/walk.md` and
//! `docs/glossary.md`. Comments are not too wide to read.
//!
//! The rules are about notation, so that a page can be checked without understanding it:
//!
//! - a path that starts with a folder of the repository (`src/`, `kernels/`, ...) exists,
//!   with or without backticks;
//! - a file name in backticks that ends in `.rs`, `.cu`, `.cuh` or `.wgsl` is the end of the path of a file;
//! - a relative link of a page leads to a file;
//! - `cargo test --test NAME` names a test binary;
//! - `` `Name::of` (`src/file.rs`) `` means that the file defines `of`.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the repository that documentation may point into.
const FOLDERS: [&str; 8] = ["src", "kernels", "shaders", "tests", "docs", "benches", "examples", "fuzz"];

/// Files whose name alone is enough to say which one is meant.
const SOURCES: [&str; 4] = ["rs", "cu", "cuh", "wgsl"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder`, with its path from the root of the repository.
fn files_below(folder: &str, into: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return };
    for entry in entries.map(|entry| entry.unwrap()) {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            // What a build leaves in the folder of the fuzz targets is not part of the repository.
            if !path.ends_with("/target") {
                files_below(&path, into);
            }
        } else {
            into.push(path);
        }
    }
}

fn files() -> Vec<String> {
    let mut all = vec![];
    FOLDERS.iter().for_each(|folder| files_below(folder, &mut all));
    all
}

fn extension(path: &str) -> &str {
    Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default()
}

/// The pages of the documentation. The changelog is history, which names what is gone.
fn pages(files: &[String]) -> Vec<String> {
    let pages = files.iter().filter(|path| path.starts_with("docs/") && extension(path) == "md").cloned();
    let above = ["README.md", "CONTRIBUTING.md"].map(str::to_string);
    above.into_iter().filter(|page| root().join(page).exists()).chain(pages).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// The text of each line that documents: all of a page or drawing, the comments of a source.
fn documented(path: &str, text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().enumerate();
    let is_script = matches!(extension(path), "py" | "sh");
    let comment = |line: &str| {
        let at = if is_script { line.find("# ") } else { line.find("//") }?;
        Some(line[at..].to_string())
    };
    match extension(path) {
        "md" | "svg" => lines.map(|(n, line)| (n + 1, line.to_string())).collect(),
        _ => lines.filter_map(|(n, line)| Some((n + 1, comment(line)?))).collect(),
    }
}

/// Whether a character can be part of a path.
fn is_of_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./-".contains(c)
}

/// The words of a line that could be paths: maximal runs of their characters, without a full stop at the
/// end.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c| !is_of_path(c)).map(|word| word.trim_end_matches('.'))
}

/// The pieces of text between backticks.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// What is wrong with the paths of a line.
fn wrong_paths(line: &str, files: &[String]) -> Vec<String> {
    let mut wrong = vec![];
    for word in words(line) {
        let folder = word.split('/').next().unwrap_or_default();
        let is_path = word.contains('/') && FOLDERS.contains(&folder);
        if is_path && !root().join(word).exists() {
            wrong.push(word.to_string());
        }
    }
    for word in code(line).filter(|word| word.chars().all(is_of_path) && SOURCES.contains(&extension(word))) {
        let is_end = |path: &String| path == word || path.ends_with(&format!("/{word}"));
        if !files.iter().any(is_end) && !wrong.iter().any(|known| known == word) {
            wrong.push(word.to_string());
        }
    }
    wrong
}

/// What is wrong with the test binaries that a line runs.
fn wrong_tests(line: &str) -> Vec<String> {
    let names = line.split("--test ").skip(1).filter_map(|rest| rest.split(|c| !is_of_path(c)).next());
    let exists = |name: &str| ["tests/NAME.rs", "tests/NAME/main.rs"].map(|path| path.replace("NAME", name));
    let missing = |name: &&str| !exists(name).iter().any(|path| root().join(path).exists());
    names.filter(|name| name.chars().any(|c| c.is_lowercase())).filter(missing).map(str::to_string).collect()
}

/// The relative links of a line of the page `path` whose target does not exist.
fn wrong_links(path: &str, line: &str) -> Vec<String> {
    let from = Path::new(path).parent().map_or(PathBuf::new(), Path::to_path_buf);
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let is_relative = |target: &&str| !target.is_empty() && !target.contains(':');
    targets.filter(is_relative).filter(|to| !root().join(&from).join(to).exists()).map(str::to_string).collect()
}

/// Whether `text` defines `name`: an item, a field, a variant or a kernel.
fn defines(text: &str, name: &str) -> bool {
    const KEYWORDS: [&str; 9] = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules!"];
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    text.lines().map(str::trim_start).any(|line| {
        let item = KEYWORDS.iter().any(|keyword| {
            let define = format!("{keyword} {name}");
            line.find(&define).is_some_and(|at| ends(&line[at + define.len()..]))
        });
        let field = line.trim_start_matches("pub ").trim_start_matches("pub(super) ").trim_start_matches("pub(crate) ");
        let member =
            field.strip_prefix(name).is_some_and(|rest| rest.starts_with([',', '(', ':']) || rest.starts_with(" {"));
        let kernel = line.contains(&format!("{name}(")) && (line.contains("__global__") || line.contains("KERNEL"));
        item || member || kernel
    })
}

/// The names of a page that the file next to them does not define: `` `Name::of` (`src/file.rs`) ``.
fn wrong_definitions(page: &str) -> Vec<String> {
    let parts: Vec<&str> = page.split('`').collect();
    let mut wrong = vec![];
    for triple in parts[1..].windows(3).step_by(2) {
        let &[name, between, path] = triple else { continue };
        let is_path = path.contains('/') && SOURCES.contains(&extension(path));
        if between.trim_start() != "(" || !is_path || !root().join(path).exists() {
            continue;
        }
        let last =
            name.split(['(', '<', '!', ' ']).next().unwrap_or_default().rsplit([':', '.']).next().unwrap_or_default();
        if !defines(&read(path), last) {
            wrong.push(format!("{name} ({path})"));
        }
    }
    wrong
}

#[test]
fn comment_lines_end_before_column_110() {
    let sources = files().into_iter().filter(|path| SOURCES.contains(&extension(path)));
    let long = sources.flat_map(|path| {
        let text = read(&path);
        let is_long = |line: &&str| line.trim_start().starts_with("//") && line.chars().count() > 109;
        text.lines().filter(is_long).map(|line| format!("{path}: {line}")).collect::<Vec<_>>()
    });
    let long: Vec<String> = long.collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn files_and_tests_that_are_named_exist() {
    let files = files();
    let is_text =
        |path: &&String| matches!(extension(path), "rs" | "cu" | "cuh" | "wgsl" | "h" | "cpp" | "py" | "sh" | "svg");
    let sources = files.iter().filter(|path| !path.starts_with("fuzz/")).filter(is_text).cloned();
    let mut wrong = vec![];
    for path in pages(&files).into_iter().chain(sources) {
        // This file explains its rules by examples.
        if path == "tests/docs.rs" {
            continue;
        }
        let text = read(&path);
        for (number, line) in documented(&path, &text) {
            let mut found = wrong_paths(&line, &files);
            found.extend(wrong_tests(&line));
            if extension(&path) == "md" {
                found.extend(wrong_links(&path, &line));
            }
            wrong.extend(found.into_iter().map(|name| format!("{path}:{number}: {name}")));
        }
    }
    assert!(wrong.is_empty(), "these are named but do not exist:\n{}", wrong.join("\n"));
}

#[test]
fn functions_that_pages_name_are_in_the_file_next_to_them() {
    let mut wrong = vec![];
    for page in pages(&files()) {
        wrong.extend(wrong_definitions(&read(&page)).into_iter().map(|name| format!("{page}: {name}")));
    }
    assert!(wrong.is_empty(), "these are not defined where the page says:\n{}", wrong.join("\n"));
}

#[test]
fn what_does_not_exist_is_found() {
    let files = files();
    assert_eq!(wrong_paths("see `src/nowhere.rs` and src/tape/op.rs.", &files), ["src/nowhere.rs"]);
    assert_eq!(wrong_paths("see `nowhere.cuh`, `tape/op.rs`, `op.rs` and `src/tape/`", &files), ["nowhere.cuh"]);
    assert_eq!(wrong_tests("`cargo test --test docs`, `cargo test --test nowhere refused`"), ["nowhere"]);
    assert_eq!(wrong_links("docs/design.md", "[a](models.md) [b](nowhere.md#c) [d](https://e.org)"), ["nowhere.md"]);
    let page = "`Tape::grad` (`src/tape/grad.rs`) and `Tape::nowhere` (`src/tape/grad.rs`)";
    assert_eq!(wrong_definitions(page), ["Tape::nowhere (src/tape/grad.rs)"]);
}
