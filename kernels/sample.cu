// Sampling by windows: a block computes one image, through the windows of all rounds of the launch, position
// by position.
//
// The launch interprets two tables: steps (what is computed from what) and windows (which positions of which
// step, in order). A round computes what has become computable and ends with the draw of one position, which
// becomes part of the image. Values are in global memory, where the next windows find them. A barrier after
// every window lets the whole block see them.
//
// Every element is computed by the same expression, summed in the same order, as in the kernel for whole
// tensors, so both give the same bits.
// Launch: THREADS threads per block, one block per image; no shared memory. One launch runs a part of the
// rounds, so no launch runs long enough for a watchdog.
// Cost: about one forward pass per image. Bound by the latency of the steps of a round, which depend on each
// other. Images run in parallel on the multiprocessors.
#include "cell.cuh"
#include "product.cuh"
#include "windows.cuh"

// A step; src/backend/sample.rs writes it.
struct SampleStep {
    const float* inputs[3];
    float* outputs[2];
    const float* fused[3];  // bias, addend, saved value of an activation gradient
    // Words from one image to the next; 0 if all images share the value.
    u32 input_stride[3], output_stride[2], fused_stride[3];
    Conv conv;
    Epilogue epilogue;
    u32 op, f;
    float a, b;
    u32 size[3];    // height, width, channels of the first output
    u32 inner[3];   // height, width, channels of the first input
    u32 before[3];  // position of the first element of a region
    u32 transposed, reverse, unused;
};
static_assert(sizeof(SampleStep) == 256, "as in backend/sample.rs");

// Positions of one step that are computed together: half-open ranges; src/tape/window.rs.
struct Window {
    u32 step, rows[2], columns[2], channels[2], padding;
};
static_assert(sizeof(Window) == 32, "as in tape/window.rs");

// A step as one image sees it.
struct ImageStep {
    const SampleStep& s;

    __device__ __forceinline__ const float* input(u32 i) const { return s.inputs[i] + blockIdx.x * s.input_stride[i]; }
    __device__ __forceinline__ float* output(u32 i) const { return s.outputs[i] + blockIdx.x * s.output_stride[i]; }
    __device__ __forceinline__ const float* fused(u32 i) const { return s.fused[i] + blockIdx.x * s.fused_stride[i]; }

    // Computes an element of a convolution, with taps in raster order, as the product sums them. Taps
    // outside the image are left out.
    __device__ __forceinline__ float conv(u32 row, u32 column, u32 co) const {
        const Conv& g = s.conv;
        const float *x = input(0), *w = input(1);
        const u32 centre = centre_tap(g);
        float sum = 0.0f;
        for (u32 tap = 0; tap < g.kh * g.kw; tap++) {
            if (g.mask != 0 && tap > centre) break;
            const u32 r = row * g.sh + tap / g.kw - g.ph, c = column * g.sw + tap % g.kw - g.pw;
            if (r >= g.h || c >= g.w) continue;
            const u32 open = g.mask != 0 && tap == centre ? open_channels(g, co) : g.cin;
            const float* from = x + (r * g.w + c) * g.cin;
            for (u32 ci = 0; ci < open; ci++)
                sum = __fmaf_rn(from[ci], s.transposed ? w[co * g.cin + ci] : w[(tap * g.cin + ci) * g.cout + co], sum);
        }
        return sum;
    }

    // Computes a unit of a pixel of a scan, with states in the order of the taps, as the scan of whole
    // images sums them.
    template <bool DIAGONAL>
    __device__ __forceinline__ void scan(u32 row, u32 column, u32 u) const {
        const float *z = input(0), *w = input(1);
        float *y = output(0), *kept = output(1);
        const u32 d = s.size[2], width = s.size[1], at = row * width + column, taps = DIAGONAL ? 2 : s.conv.kw;
        const u32 beside = s.reverse ? column + 1 : column - 1;
        float sums[4];
        for (u32 g = 0; g < 4; g++) sums[g] = z[(at * 4 + g) * d + u];
        for (u32 j = 0; j < taps; j++) {
            // The pixel above, or the pixel before in the same row. A position before the first one wraps
            // around to a large number.
            const u32 r = DIAGONAL && j == 1 ? row : row - 1;
            const u32 c = DIAGONAL ? (j == 1 ? beside : column) : column + j - taps / 2;
            if (r >= s.size[0] || c >= width) continue;
            const float* state = y + (r * width + c) * d;
            for (u32 k = 0; k < d; k++)
                for (u32 g = 0; g < 4; g++)
                    sums[g] = __fmaf_rn(state[k], w[((j * d + k) * 4 + g) * d + u], sums[g]);
        }
        const u32 r = DIAGONAL ? row : row - 1, c = DIAGONAL ? beside : column;
        const float old = r < s.size[0] && c < width ? kept[((r * width + c) * 5 + 4) * d + u] : 0.0f;
        const Cell now = cell(sums[0], sums[1], sums[2], sums[3], old);
        float* keep = kept + at * 5 * d + u;
        keep[0] = now.i;
        keep[d] = now.f;
        keep[2 * d] = now.g;
        keep[3 * d] = now.o;
        keep[4 * d] = now.c;
        y[at * d + u] = now.h;
    }

    // Computes the element of the first output at row, column and channel.
    __device__ __forceinline__ void run(u32 row, u32 column, u32 channel) const {
        const u32 pixel = row * s.size[1] + column, at = pixel * s.size[2] + channel;
        float* y = output(0);
        switch (s.op) {
            case UNARY: y[at] = unary_of(s.f, s.a, input(0)[at]); break;
            case BINARY: y[at] = binary_of(s.f, input(0)[at], input(1)[at]); break;
            case AFFINE: y[at] = s.a * input(0)[at] + s.b; break;
            case CLAMP: y[at] = clamp_of(input(0)[at], s.a, s.b); break;
            case QUANTIZE: ((u32*)y)[at] = quantize_of(input(0)[at], s.a); break;
            case DEQUANTIZE: y[at] = (float)((const u32*)input(0))[at] / s.a; break;
            case GATED: {
                const float* x = input(0) + 2 * pixel * s.size[2] + channel;
                y[at] = gated_of(x[0], x[s.size[2]]);
                break;
            }
            case PAD: {
                const u32 r = row - s.before[0], c = column - s.before[1], k = channel - s.before[2];
                const bool inside = r < s.inner[0] && c < s.inner[1] && k < s.inner[2];
                y[at] = inside ? input(0)[(r * s.inner[1] + c) * s.inner[2] + k] : 0.0f;
                break;
            }
            case SLICE: {
                const u32 r = row + s.before[0], c = column + s.before[1], k = channel + s.before[2];
                y[at] = input(0)[(r * s.inner[1] + c) * s.inner[2] + k];
                break;
            }
            case CONV: {
                float v[1] = {conv(row, column, channel)};
                const Finish finish = {y,        s.size[2], nullptr,    0,       0, fused(0), fused(1),
                                       fused(2), s.epilogue, order_of(s.epilogue)};
                finish.store<1>(at, channel, v);
                break;
            }
            case CATEGORICAL: {
                const u32 k = s.f;
                ((u32*)y)[at] = categorical_of(input(0) + at * k, k, input(1)[at], input(2)[0]);
                break;
            }
            case BERNOULLI: y[at] = bernoulli_of(input(0)[at], input(1)[at], input(2)[0]); break;
            case ROW_LSTM: scan<false>(row, column, channel); break;
            case DIAGONAL_LSTM: scan<true>(row, column, channel); break;
            default: y[at] = NAN_F;
        }
    }
};

// steps [..], windows [..], starts [rounds + 1] (the first window of each round), draws and images [images,
// rounds].
KERNEL(THREADS, sample)
(Sample p, const SampleStep* steps, const Window* windows, const u32* starts, const float* draws, float* images) {
    for (u32 round = p.first; round < p.end; round++) {
        for (u32 i = starts[round]; i < starts[round + 1]; i++) {
            const Window w = windows[i];
            const ImageStep step = {steps[w.step]};
            const u32 columns = w.columns[1] - w.columns[0], channels = w.channels[1] - w.channels[0];
            const u32 len = (w.rows[1] - w.rows[0]) * columns * channels;
            for (u32 e = threadIdx.x; e < len; e += THREADS)
                step.run(w.rows[0] + e / channels / columns, w.columns[0] + e / channels % columns,
                         w.channels[0] + e % channels);
            __syncthreads();
        }
        // Writes the draw of this position into the image.
        const u32 at = blockIdx.x * p.rounds + round;
        if (round >= p.from && threadIdx.x == 0) images[at] = draws[at];
        __syncthreads();
    }
}
