// What a step computes in windows, by its code; the list is in src/tape/window_op.rs.
// Written by `PIXTAPE_BLESS=1 cargo test --lib backend::codes`. Do not edit.
#pragma once
enum {
    UNARY = 1,
    BINARY = 2,
    AFFINE = 3,
    CLAMP = 4,
    QUANTIZE = 5,
    DEQUANTIZE = 6,
    GATED = 7,
    PAD = 8,
    SLICE = 9,
    CONV = 10,
    CATEGORICAL = 11,
    BERNOULLI = 12,
    ROW_LSTM = 13,
    DIAGONAL_LSTM = 14,
};
