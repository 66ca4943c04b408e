// Threefry-2x32 with 20 rounds (Salmon et al. 2011), as in src/rng.rs: the same bits on every device.
#pragma once
#include "common.cuh"

struct Words {
    u32 x, y;
};

// Two random words from a key (seed, stream) and a counter.
__device__ __forceinline__ Words threefry2x32(u32 key0, u32 key1, u32 counter0, u32 counter1) {
    const u32 rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    const u32 keys[3] = {key0, key1, 0x1BD11BDAu ^ key0 ^ key1};
    u32 x = counter0 + keys[0], y = counter1 + keys[1];
#pragma unroll
    for (u32 group = 0; group < 5; group++) {
#pragma unroll
        for (u32 round = 0; round < 4; round++) {
            const u32 by = rotations[group % 2 * 4 + round];
            x += y;
            y = (y << by | y >> (32 - by)) ^ x;
        }
        x += keys[(group + 1) % 3];
        y += keys[(group + 2) % 3] + group + 1;
    }
    return {x, y};
}

// A word as a uniform number in [0, 1): its top 24 bits times 2^-24.
__device__ __forceinline__ float unit(u32 word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }

// A standard normal number: Box-Muller on (1 - u1, u2), the cosine branch.
__device__ __forceinline__ float normal(Words words) {
    return sqrtf(-2.0f * log_of(1.0f - unit(words.x))) * cos_turns(unit(words.y));
}
