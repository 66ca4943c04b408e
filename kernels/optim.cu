// Optimisers and moving averages: all parameters of a plan in one launch.
//
// A launch gets a table of updates. Blocks take pieces of PIECE elements. A block finds its update by the
// number of its first piece, which ascends. Old and new values may be the same memory (the planner replaces
// parameters in place).
// Launch: THREADS threads per block, one block per piece. lr[1] and step[1] are device scalars, so a
// captured plan never contains a stale one.
// Cost: 6 to 12 FLOPs and 12 to 28 bytes per element: bound by memory.
#include "common.cuh"

// One parameter: its gradient and state before and after; src/backend/cuda/optim.rs writes it.
struct Update {
    const float *param, *grad, *m, *v;
    float *param_out, *m_out, *v_out;
    u32 len, first_piece;
};
static_assert(sizeof(Update) == 64, "as in cuda/optim.rs");

// Elements of a piece.
#define PIECE 4096

// The update that this block works on, and the range of its elements.
struct Piece {
    Update of;
    u32 first, end;
};
__device__ __forceinline__ Piece piece_of(const Update* updates, u32 count) {
    u32 low = 0;
    for (u32 high = count; high - low > 1;) {
        const u32 middle = (low + high) / 2;
        if (updates[middle].first_piece <= blockIdx.x) low = middle;
        else high = middle;
    }
    const Update of = updates[low];
    const u32 first = (blockIdx.x - of.first_piece) * PIECE;
    return {of, first, first + PIECE < of.len ? first + PIECE : of.len};
}

// m += (1 - beta1) (grad - m), v = beta2 v + (1 - beta2) grad^2, param -= lr / (1 - beta1^t) m / (sqrt(v /
// (1 - beta2^t)) + eps) (Kingma & Ba 2015, algorithm 1); p.len updates.
KERNEL(THREADS, adam)(Optim p, const Update* updates, const float* lr, const float* step) {
    __shared__ float corrections[2];
    if (threadIdx.x == 0) {
        const double t = step[0];
        corrections[0] = (float)((double)lr[0] / (1.0 - pow(p.beta1, t)));
        corrections[1] = (float)(1.0 / sqrt(1.0 - pow(p.beta2, t)));
    }
    __syncthreads();
    const float step_size = corrections[0], root_scale = corrections[1];
    const Piece piece = piece_of(updates, p.len);
    for (u32 i = piece.first + threadIdx.x; i < piece.end; i += THREADS) {
        const float g = piece.of.grad[i], m = piece.of.m[i] + p.to_m * (g - piece.of.m[i]);
        const float v = p.keep * piece.of.v[i] + p.to_v * (g * g);
        piece.of.param_out[i] = piece.of.param[i] - step_size * (m / (sqrtf(v) * root_scale + p.eps));
        piece.of.m_out[i] = m;
        piece.of.v_out[i] = v;
    }
}

// v = alpha v + (1 - alpha) grad^2, param -= lr grad / (sqrt(v) + eps), with v in m; p.len updates.
KERNEL(THREADS, rmsprop)(Optim p, const Update* updates, const float* lr) {
    const Piece piece = piece_of(updates, p.len);
    for (u32 i = piece.first + threadIdx.x; i < piece.end; i += THREADS) {
        const float g = piece.of.grad[i], v = p.keep * piece.of.m[i] + p.to_v * (g * g);
        piece.of.param_out[i] = piece.of.param[i] - lr[0] * (g / (sqrtf(v) + p.eps));
        piece.of.m_out[i] = v;
    }
}

// buf = momentum buf + grad, param -= lr buf, with buf in m; p.len updates.
KERNEL(THREADS, sgd)(Optim p, const Update* updates, const float* lr) {
    const Piece piece = piece_of(updates, p.len);
    for (u32 i = piece.first + threadIdx.x; i < piece.end; i += THREADS) {
        const float buf = p.keep * piece.of.m[i] + piece.of.grad[i];
        piece.of.param_out[i] = piece.of.param[i] - lr[0] * buf;
        piece.of.m_out[i] = buf;
    }
}

// average = decay average + (1 - decay) value, with the value in grad; p.len updates.
KERNEL(THREADS, ema)(Optim p, const Update* updates) {
    const Piece piece = piece_of(updates, p.len);
    for (u32 i = piece.first + threadIdx.x; i < piece.end; i += THREADS)
        piece.of.param_out[i] = p.keep * piece.of.param[i] + p.to_v * piece.of.grad[i];
}
