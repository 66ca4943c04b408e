// The elementwise functions by their codes. The list is in src/tape/functions.rs, the functions are in
// common.wgsl.
// Written by `PIXTAPE_BLESS=1 cargo test --lib backend::codes`. Do not edit.

/// The code that means no function.
const NO_FUNCTION: u32 = 0u;

const RELU: u32 = 1u;
const LEAKY_RELU: u32 = 2u;
const ELU: u32 = 3u;
const TANH: u32 = 4u;
const SIGMOID: u32 = 5u;
const SOFTPLUS: u32 = 6u;
const SILU: u32 = 7u;
const EXP: u32 = 8u;
const LOG: u32 = 9u;
const SQRT: u32 = 10u;
const SQUARE: u32 = 11u;
const RECIP: u32 = 12u;
const GELU: u32 = 13u;

/// f(x)
fn apply_unary(f: u32, slope: f32, x: vec4f) -> vec4f {
    switch f {
        case RELU: { return math_relu(x); }
        case LEAKY_RELU: { return math_leaky_relu(x, slope); }
        case ELU: { return math_elu(x); }
        case TANH: { return math_tanh(x); }
        case SIGMOID: { return math_sigmoid(x); }
        case SOFTPLUS: { return math_softplus(x); }
        case SILU: { return math_silu(x); }
        case EXP: { return math_exp(x); }
        case LOG: { return math_log(x); }
        case SQRT: { return math_sqrt(x); }
        case SQUARE: { return math_square(x); }
        case RECIP: { return math_recip(x); }
        case GELU: { return math_gelu(x); }
        default: { return number_of_bits(NAN); }
    }
}

/// dy f'(x). `saved` is y or x, as `Unary::saves_output` says.
fn apply_unary_bwd(f: u32, slope: f32, dy: vec4f, saved: vec4f) -> vec4f {
    switch f {
        case RELU: { return math_relu_bwd(dy, saved); }
        case LEAKY_RELU: { return math_leaky_relu_bwd(dy, saved, slope); }
        case ELU: { return math_elu_bwd(dy, saved); }
        case TANH: { return math_tanh_bwd(dy, saved); }
        case SIGMOID: { return math_sigmoid_bwd(dy, saved); }
        case SOFTPLUS: { return math_softplus_bwd(dy, saved); }
        case SILU: { return math_silu_bwd(dy, saved); }
        case EXP: { return math_exp_bwd(dy, saved); }
        case LOG: { return math_log_bwd(dy, saved); }
        case SQRT: { return math_sqrt_bwd(dy, saved); }
        case SQUARE: { return math_square_bwd(dy, saved); }
        case RECIP: { return math_recip_bwd(dy, saved); }
        case GELU: { return math_gelu_bwd(dy, saved); }
        default: { return number_of_bits(NAN); }
    }
}

const ADD: u32 = 1u;
const SUB: u32 = 2u;
const MUL: u32 = 3u;
const DIV: u32 = 4u;

/// f(a, b)
fn binary_of(f: u32, a: vec4f, b: vec4f) -> vec4f {
    switch f {
        case ADD: { return math_add(a, b); }
        case SUB: { return math_sub(a, b); }
        case MUL: { return math_mul(a, b); }
        case DIV: { return math_div(a, b); }
        default: { return number_of_bits(NAN); }
    }
}
