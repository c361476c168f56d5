// One of the 512 threads that compute: how it waits for other blocks, and how its warp multiplies.
#pragma once
#include "layout.cuh"

constexpr int HIDDEN_READERS = HIDDEN_SLOTS / 2;  // threads that read the hidden state, two slots each
// Polls that begin at once are in the way of the writes that they wait for: 0.448 ms a token without, 0.437 with 100 ns.
constexpr int PAUSE_BEFORE_POLL_NS = 300;  // 0.427
constexpr int TRIES_BEFORE_CLOCK = 1024;          // of reading slots in vain, 0.7 ms

// After much waiting: whether to go on without the data. The block leaves at the end of the token. Not a method, since
// a worker whose address is handed to a call is no longer kept in registers.
__device__ __noinline__ bool wait_is_over(Shared& shared, State* state, u64 deadline) {
  volatile int* others = &state->gave_up;
  if (!shared.gave_up && !*others && nanoseconds() < deadline) return false;
  shared.gave_up = 1;
  *others = 1;
  return true;
}

struct Worker {
  const Arguments& arguments;
  Shared& shared;
  const int block, thread, warp, lane;
  const int row, quad;  // as mma.m16n8k16 sees the lane: of the activations (of a chunk in loads), and its columns
  const bool holds_row;
  const u64 deadline;
  u32 epoch;
  int stage = 0, phase = 0;  // in the ring of weights
  int turn = 0;              // of the two buffers of partial sums
  u32 operand[8];            // 16 columns of the activations' row

  __device__ Worker(const Arguments& arguments, Shared& shared)
      : arguments(arguments), shared(shared), block(blockIdx.x), thread(threadIdx.x), warp(thread >> 5),
        lane(thread & 31), row(lane >> 2), quad(lane & 3), holds_row(row < ROWS),
        deadline(nanoseconds() + arguments.patience), epoch(arguments.state->epoch) {}

  // Of the warps that compute; the one that streams takes no part.
  __device__ __forceinline__ void meet() const { asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory"); }

  // ---- waiting for other blocks

  __device__ __forceinline__ bool gives_up() const { return wait_is_over(shared, arguments.state, deadline); }

  // N times two slots, `stride` apart, as soon as all of them are of this epoch. Every thread polls for itself: eight
  // lanes of each warp polling for the others took three times as long.
  template <int N>
  __device__ __forceinline__ void read_slots(uint4 (&found)[N], const Slot* first, int stride) const {
    bool ready;
    int tries = 0;
    __nanosleep(PAUSE_BEFORE_POLL_NS);
    do {
      ready = true;
#pragma unroll
      for (int i = 0; i < N; i++) {
        found[i] = load_two_slots(first + i * stride);
        ready &= found[i].y == epoch & found[i].w == epoch;
      }
    } while (!ready && (++tries % TRIES_BEFORE_CLOCK != 0 || !gives_up()));
  }

  __device__ __forceinline__ uint4 read_two_slots(const Slot* first) const {
    uint4 found[1];
    read_slots<1>(found, first, 0);
    return found[0];
  }

  // ---- products with the weights in the ring

  __device__ __forceinline__ float* partial() const { return shared.partial[turn][warp]; }

  __device__ __forceinline__ void load_operand(const u32* columns) {
    if (holds_row) {
      const uint4 first = *(const uint4*)columns, second = *(const uint4*)(columns + 4);
      operand[0] = first.x, operand[1] = first.y, operand[2] = first.z, operand[3] = first.w;
      operand[4] = second.x, operand[5] = second.y, operand[6] = second.z, operand[7] = second.w;
    } else {
      clear_operand();
    }
  }

  __device__ __forceinline__ void clear_operand() {
#pragma unroll
    for (int i = 0; i < 8; i++) operand[i] = 0;
  }

  // This thread's four values of the hidden state go to shared memory; the operand, to registers.
  __device__ __forceinline__ void stage_hidden(u32 first, u32 second) {
    if (thread < HIDDEN_READERS) *(uint2*)(shared.staged + thread * 2) = make_uint2(first, second);
    meet();
    load_operand(shared.staged + row * PAIRS + warp * 32 + quad * 8);
  }

  // RMSNorm's weight is part of the matrix, and its scale is applied to the product, so that nothing waits for it.
  __device__ __forceinline__ void note_squares(u32 first, u32 second) const {
    float squares = low(first) * low(first) + high(first) * high(first) + low(second) * low(second) +
                    high(second) * high(second);
#pragma unroll
    for (int distance = 16; distance; distance >>= 1) squares += __shfl_xor_sync(~0u, squares, distance);
    if (lane == 0) partial()[SQUARES] = squares;
  }

  // Eight rows of weights times 64 columns of this warp; whoever streams may fill the chunk again.
  __device__ __forceinline__ void multiply(float (&sum)[4]) {
    wait_for(shared.full + stage, phase);
    const uint4* mine = (const uint4*)shared.ring[stage] + warp * 64 + lane;
    const uint4 first = mine[0], second = mine[32];
    __syncwarp();
    if (lane == 0) arrive(shared.empty + stage);
    if (++stage == RING_CHUNKS) stage = 0, phase ^= 1;
    multiply_tile(sum, operand[0], operand[1], first.x, first.y);
    multiply_tile(sum, operand[2], operand[3], first.z, first.w);
    multiply_tile(sum, operand[4], operand[5], second.x, second.y);
    multiply_tile(sum, operand[6], operand[7], second.z, second.w);
  }

  __device__ __forceinline__ void put_partial(int chunk, const float (&sum)[4]) const {
    if (holds_row) *(float2*)(partial() + chunk * 16 + row * 8 + quad * 2) = make_float2(sum[0], sum[1]);
  }

  // N chunks over the same columns; afterwards the partial sums of all warps are there to be added up.
  template <int N>
  __device__ __forceinline__ void multiply_chunks(int count = N) {
    float sums[N][4] = {};
#pragma unroll
    for (int i = 0; i < N; i++)
      if (i < count) multiply(sums[i]);
#pragma unroll
    for (int i = 0; i < N; i++)
      if (i < count) put_partial(i, sums[i]);
  }

  // Two neighbouring outputs of a chunk, for one row of the activations.
  __device__ __forceinline__ float2 add_up(int chunk, int of_row, int pair) const {
    float2 sum = make_float2(0, 0);
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float2 one = *(const float2*)(shared.partial[turn][w] + chunk * 16 + of_row * 8 + pair * 2);
      sum.x += one.x, sum.y += one.y;
    }
    return sum;
  }

  __device__ __forceinline__ float norm_scale(int of_row) const {
    float squares = 0;
#pragma unroll
    for (int w = 0; w < WARPS / 2; w++) squares += shared.partial[turn][of_row * WARPS / 2 + w][SQUARES];
    return rsqrtf(squares / WIDTH + arguments.epsilon);
  }
};
