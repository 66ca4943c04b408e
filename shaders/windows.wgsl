// What a step computes in windows, by its code; the list is in src/tape/window_op.rs.
// Written by `PIXTAPE_BLESS=1 cargo test --lib backend::codes`. Do not edit.

const UNARY: u32 = 1u;
const BINARY: u32 = 2u;
const AFFINE: u32 = 3u;
const CLAMP: u32 = 4u;
const QUANTIZE: u32 = 5u;
const DEQUANTIZE: u32 = 6u;
const GATED: u32 = 7u;
const PAD: u32 = 8u;
const SLICE: u32 = 9u;
const CONV: u32 = 10u;
const CATEGORICAL: u32 = 11u;
const BERNOULLI: u32 = 12u;
const ROW_LSTM: u32 = 13u;
const DIAGONAL_LSTM: u32 = 14u;
