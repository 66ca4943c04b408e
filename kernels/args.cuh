// The argument structs of src/backend/args.rs, with the same words in the same order. They hold the
// arguments of the kernels, apart from their buffers, and are passed by value.
#pragma once
typedef unsigned int u32;

// fill, unary, unary_bwd, binary, affine, clamp, quantize, dequantize, reparameterize, bce_with_logits, mse,
// bernoulli
struct Map {
    u32 len, f;  // number of elements; code of a function
    float a, b;  // slope, value, scale, lower bound or highest level; shift or upper bound
};
static_assert(sizeof(Map) == 16, "as in args.rs");

// gated, softmax_cross_entropy, lstm_cell and their gradients; gather, scatter, gaussian_kl,
// gaussian_sample_bwd, categorical, layer_norm, batch_norm_infer, transpose
struct Rows {
    u32 rows, width, others;  // rows of the output; elements of a row; rows of the other operand
    float eps;
};
static_assert(sizeof(Rows) == 16, "as in args.rs");

// pad, slice: a region of `inner` extents, whose first element is at position `before` of a tensor of
// `outer` extents
struct Region {
    u32 outer[4], inner[4], before[4];
};
static_assert(sizeof(Region) == 48, "as in args.rs");

// sum, expand: large [kept0, folded0, kept1, folded1, kept2], small [kept0, kept1, kept2]
struct Axes {
    u32 kept0, folded0, kept1, folded1, kept2;
    u32 part_rows, parts, lanes;  // rows per partial sum; partial sums per sum; threads per column
};
static_assert(sizeof(Axes) == 32, "as in args.rs");

// x [n, h, w, cin], weights [kh, kw, cin, cout], y [n, oh, ow, cout]
struct Conv {
    u32 n, h, w, cin, oh, ow, cout, kh, kw, sh, sw, ph, pw;
    u32 mask;  // 0 for no mask, 1 for mask A, 2 for mask B
    u32 groups, blocks;
};
static_assert(sizeof(Conv) == 64, "as in args.rs");

// Up to four operations in order. Kinds: 0 ends the list, 1 bias, 2 add, 3 activation, 4 activation
// gradient.
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
    u32 chunk, chunks;  // pixels of a chunk; number of chunks
    u32 unused[2];
};
static_assert(sizeof(ConvDw) == 80, "as in args.rs");

// matmul: c[m, n] = op(a) op(b)
struct Matmul {
    u32 m, n, k;
    u32 chunk;  // elements of k that one block adds up; 0 if k is not cut into chunks
    Epilogue epilogue;
};
static_assert(sizeof(Matmul) == 48, "as in args.rs");

// batch_norm, group_norm and their gradients; layer_norm_bwd
struct Norm {
    u32 rows, c, chunk, chunks;  // rows and channels; rows of a chunk and number of chunks
    float eps;
    u32 act;  // code of an activation, or NO_FUNCTION
    float act_slope;
    u32 images, share;  // images (of `rows` rows each); channels that share statistics
    u32 unused[3];
};
static_assert(sizeof(Norm) == 48, "as in args.rs");

// lstm, lstm_bwd
struct Sequence {
    u32 steps, rows, h;
    u32 held;  // leading rows of the recurrent weights that are held in shared memory
};
static_assert(sizeof(Sequence) == 16, "as in args.rs");

// row_lstm, diagonal_lstm and their gradients: images [n, h, w] of d units
struct Scan {
    u32 n, h, w, d;
    u32 taps;     // number of states that a pixel reads
    u32 reverse;  // 1 if columns run from right to left
    u32 held;     // leading rows of the weights that are held in shared memory
    u32 unused;
};
static_assert(sizeof(Scan) == 32, "as in args.rs");

// random
struct Random {
    u32 len, per_image;  // elements; elements of an image, or 0 if draws are counted by replay
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
    float to_m, keep, to_v;      // 1 - beta1 (adam); beta2, alpha, momentum or decay; 1 - keep
    float eps;                   // added to a divisor, so that the quotient stays finite
    u32 len, unused[3];
};
static_assert(sizeof(Optim) == 48, "as in args.rs");

// sample: the rounds [first, end) of `rounds`; positions before `from` are given and not drawn
struct Sample {
    u32 first, end, rounds, from;
};
static_assert(sizeof(Sample) == 16, "as in args.rs");
