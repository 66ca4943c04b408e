//! Generates the kernel sources that follow from two Rust lists: the codes of the elementwise functions, and
//! the codes of the ops that have windows. The generated files are committed, so the kernels and shaders
//! compile without a generator. The test compares the files with the lists. If `PIXTAPE_BLESS` is set, it
//! writes them instead.

use crate::tape::functions::{binary_functions, unary_functions};
use crate::tape::window_op::code;
use std::path::Path;

const NOTE: &str = "// Written by `PIXTAPE_BLESS=1 cargo test --lib backend::codes`. Do not edit.";

/// An elementwise function: its code, its name, the name of the function that computes `dy f'`, and whether
/// both take an argument.
struct Function {
    code: u32,
    name: &'static str,
    bwd: &'static str,
    argument: bool,
}

macro_rules! list_unary {
    ([] $($(#[$doc:meta])* $variant:ident $(($argument:ident = $example:literal))? = $code:literal:
        $name:ident(x), $bwd:ident(dy, $saved:ident);)*) => {
        fn unary() -> Vec<Function> {
            vec![$(Function {
                code: $code,
                name: stringify!($name),
                bwd: stringify!($bwd),
                argument: !["", $(stringify!($argument))?].concat().is_empty(),
            }),*]
        }
    };
}
unary_functions!(list_unary);

macro_rules! list_binary {
    ([] $($(#[$doc:meta])* $variant:ident = $code:literal: $name:ident(a, b);)*) => {
        fn binary() -> Vec<(u32, &'static str)> {
            vec![$(($code, stringify!($name))),*]
        }
    };
}
binary_functions!(list_binary);

fn cuda_functions() -> String {
    let mut text = format!(
        "// The elementwise functions by their codes. The list is in src/tape/functions.rs, the functions are in\n\
         // math.cuh.\n\
         {NOTE}\n#pragma once\n#include \"math.cuh\"\n\n// The code that means no function.\n\
         enum {{ NO_FUNCTION = 0 }};\n\nenum {{\n"
    );
    for Function { code, name, .. } in unary() {
        text += &format!("    {} = {code},\n", name.to_uppercase());
    }
    text += "};\n\n// f(x). `f` is the same for all threads of a launch: the branch costs no divergence.\n\
             __device__ __forceinline__ float unary_of(u32 f, float slope, float x) {\n    switch (f) {\n";
    for Function { name, argument, .. } in unary() {
        let slope = if argument { ", slope" } else { "" };
        text += &format!("        case {}: return {name}_of(x{slope});\n", name.to_uppercase());
    }
    text += "        default: return NAN_F;\n    }\n}\n\n// dy f'(x). `saved` is y or x, as `Unary::saves_output` says.\n\
             __device__ __forceinline__ float unary_bwd_of(u32 f, float slope, float dy, float saved) {\n    switch (f) {\n";
    for Function { name, bwd, argument, .. } in unary() {
        let slope = if argument { ", slope" } else { "" };
        text += &format!("        case {}: return {bwd}_of(dy, saved{slope});\n", name.to_uppercase());
    }
    text += "        default: return NAN_F;\n    }\n}\n\nenum {\n";
    for (code, name) in binary() {
        text += &format!("    {} = {code},\n", name.to_uppercase());
    }
    text +=
        "};\n\n// f(a, b)\n__device__ __forceinline__ float binary_of(u32 f, float a, float b) {\n    switch (f) {\n";
    for (_, name) in binary() {
        text += &format!("        case {}: return {name}_of(a, b);\n", name.to_uppercase());
    }
    text + "        default: return NAN_F;\n    }\n}\n"
}

fn wgsl_functions() -> String {
    let mut text = format!(
        "// The elementwise functions by their codes. The list is in src/tape/functions.rs, the functions are in\n\
         // common.wgsl.\n\
         {NOTE}\n\n/// The code that means no function.\nconst NO_FUNCTION: u32 = 0u;\n\n"
    );
    for Function { code, name, .. } in unary() {
        text += &format!("const {}: u32 = {code}u;\n", name.to_uppercase());
    }
    text += "\n/// f(x)\nfn apply_unary(f: u32, slope: f32, x: vec4f) -> vec4f {\n    switch f {\n";
    for Function { name, argument, .. } in unary() {
        let slope = if argument { ", slope" } else { "" };
        text += &format!("        case {}: {{ return math_{name}(x{slope}); }}\n", name.to_uppercase());
    }
    text += "        default: { return number_of_bits(NAN); }\n    }\n}\n\n\
             /// dy f'(x). `saved` is y or x, as `Unary::saves_output` says.\n\
             fn apply_unary_bwd(f: u32, slope: f32, dy: vec4f, saved: vec4f) -> vec4f {\n    switch f {\n";
    for Function { name, bwd, argument, .. } in unary() {
        let slope = if argument { ", slope" } else { "" };
        text += &format!("        case {}: {{ return math_{bwd}(dy, saved{slope}); }}\n", name.to_uppercase());
    }
    text += "        default: { return number_of_bits(NAN); }\n    }\n}\n\n";
    for (code, name) in binary() {
        text += &format!("const {}: u32 = {code}u;\n", name.to_uppercase());
    }
    text += "\n/// f(a, b)\nfn binary_of(f: u32, a: vec4f, b: vec4f) -> vec4f {\n    switch f {\n";
    for (_, name) in binary() {
        text += &format!("        case {}: {{ return math_{name}(a, b); }}\n", name.to_uppercase());
    }
    text + "        default: { return number_of_bits(NAN); }\n    }\n}\n"
}

const OF_WINDOWS: &str = "// What a step computes in windows, by its code; the list is in src/tape/window_op.rs.";

fn cuda_windows() -> String {
    let codes = code::EACH.map(|(name, code)| format!("    {name} = {code},\n")).concat();
    format!("{OF_WINDOWS}\n{NOTE}\n#pragma once\nenum {{\n{codes}}};\n")
}

fn wgsl_windows() -> String {
    let codes = code::EACH.map(|(name, code)| format!("const {name}: u32 = {code}u;\n")).concat();
    format!("{OF_WINDOWS}\n{NOTE}\n\n{codes}")
}

#[test]
fn committed_sources_have_the_codes_of_the_lists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, text) in [
        ("kernels/functions.cuh", cuda_functions()),
        ("kernels/windows.cuh", cuda_windows()),
        ("shaders/functions.wgsl", wgsl_functions()),
        ("shaders/windows.wgsl", wgsl_windows()),
    ] {
        if std::env::var_os("PIXTAPE_BLESS").is_some() {
            std::fs::write(root.join(file), &text).unwrap();
        }
        let committed = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(committed == text, "{file} does not follow from the lists; PIXTAPE_BLESS=1 writes it anew");
    }
}
