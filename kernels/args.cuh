// The argument structs of src/backend/args.rs, word for word: what a kernel is told beside its buffers. Passed by value.
#pragma once
typedef unsigned int u32;

// fill, unary, unary_bwd, binary, affine, clamp, reparameterize, bce_with_logits, mse, bernoulli
struct Map {
    u32 len, f;  // elements; code of a function
    float a, b;  // slope, value, scale or lower bound; shift or upper bound
};
static_assert(sizeof(Map) == 16, "as in args.rs");

// gated, gather, scatter, softmax_cross_entropy, gaussian_kl, gaussian_sample_bwd, categorical, lstm_cell, layer_norm, batch_norm_infer
struct Rows {
    u32 rows, width, others;  // rows of the output; elements of a row; rows of the other operand
    float eps;
};
static_assert(sizeof(Rows) == 16, "as in args.rs");

// pad, slice: a block of `inner` extents that lies `before` elements from the start of a tensor of `outer` extents
struct Block {
    u32 outer[4], inner[4], before[4];
};
static_assert(sizeof(Block) == 48, "as in args.rs");

// sum, expand: large [kept0, folded0, kept1, folded1, kept2], small [kept0, kept1, kept2]
struct Axes {
    u32 kept0, folded0, kept1, folded1, kept2;
    u32 part_rows, parts, lanes;  // rows of a partial sum; partial sums of a sum; threads that add up a column
};
static_assert(sizeof(Axes) == 32, "as in args.rs");

// x [n, h, w, cin], weights [kh, kw, cin, cout], y [n, oh, ow, cout]
struct Conv {
    u32 n, h, w, cin, oh, ow, cout, kh, kw, sh, sw, ph, pw;
    u32 mask;  // 0 none, 1 A, 2 B
    u32 groups, blocks;
};
static_assert(sizeof(Conv) == 64, "as in args.rs");

// Up to four operations in order: 0 nothing more, 1 bias, 2 add, 3 activation, 4 activation gradient
struct Epilogue {
    u32 kinds[4];
    u32 act;
    float act_slope;
    u32 act_bwd;
    float act_bwd_slope;
};
static_assert(sizeof(Epilogue) == 32, "as in args.rs");

// conv, conv_dx
struct Product {
    Conv conv;
    Epilogue epilogue;
};
static_assert(sizeof(Product) == 96, "as in args.rs");

// conv_dw
struct ConvDw {
    Conv conv;
    u32 chunk, chunks;  // pixels of a chunk; chunks
    u32 unused[2];
};
static_assert(sizeof(ConvDw) == 80, "as in args.rs");

// matmul: c[m, n] = op(a) op(b)
struct Matmul {
    u32 m, n, k;
    u32 chunk;  // elements of k that one block adds up, where k is cut; else 0
    Epilogue epilogue;
};
static_assert(sizeof(Matmul) == 48, "as in args.rs");

// batch_norm, batch_norm_bwd, layer_norm_bwd
struct Norm {
    u32 rows, c, chunk, chunks;  // rows of c channels, in chunks of rows
    float eps;
    u32 act;  // code of an activation, or NO_FUNCTION
    float act_slope;
    u32 images, share;  // images of `rows` rows with statistics of their own; neighbouring channels that share them
    u32 unused[3];
};
static_assert(sizeof(Norm) == 48, "as in args.rs");

// lstm, lstm_bwd
struct Sequence {
    u32 steps, rows, h;
    u32 held;  // leading rows of the recurrent weights that lie in shared memory
};
static_assert(sizeof(Sequence) == 16, "as in args.rs");

// row_lstm, diagonal_lstm and their gradients: images [n, h, w] of d units
struct Scan {
    u32 n, h, w, d;
    u32 taps;     // states that a pixel reads
    u32 reverse;  // columns from right to left
    u32 held;     // leading rows of the weights that lie in shared memory
    u32 unused;
};
static_assert(sizeof(Scan) == 32, "as in args.rs");

// random
struct Random {
    u32 len, per_image;  // elements; elements of an image, 0 where the replay counts
    u32 stream, normal;
};
static_assert(sizeof(Random) == 16, "as in args.rs");

// gaussian_sample
struct Gaussian {
    u32 rows, width;
    u32 stream, unused;
};
static_assert(sizeof(Gaussian) == 16, "as in args.rs");

// adam, rmsprop, sgd, ema
struct Optim {
    double beta1, beta2;         // adam
    float to_m, keep, to_v;      // adam: 1 - beta1; beta2, alpha, momentum or decay; one minus that
    float eps;                   // what keeps a quotient finite
    u32 len, unused[3];
};
static_assert(sizeof(Optim) == 48, "as in args.rs");

// sample: rounds [first, end) of `rounds`, of which those from `from` on are drawn
struct Sample {
    u32 first, end, rounds, from;
};
static_assert(sizeof(Sample) == 16, "as in args.rs");
