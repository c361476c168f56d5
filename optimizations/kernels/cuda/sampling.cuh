// From scores to a token, as sampler.py beside this folder does it in Triton: the same settings, ties and race.
#pragma once
#include "worker.cuh"

constexpr int SAMPLING_BLOCK = BLOCKS - 1;  // the first blocks have more of the head's rows
constexpr int THREAD_PAIRS = (TOKEN_PAIRS + THREADS - 1) / THREADS;
static_assert(2 * WINDOW * HEAD * 2 >= 2 * THREAD_PAIRS * THREADS * 4, "noise fits where keys and values are");
constexpr float NOTHING = -3.402823466e38f;

// Integers that order as the floats do.
__device__ __forceinline__ int key_of(float score) {
  const int bits = __float_as_int(score);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
__device__ __forceinline__ float score_of(int key) { return __int_as_float(key ^ ((key >> 31) & 0x7fffffff)); }

// The middle of integers whose difference may not fit, rounded down.
__device__ __forceinline__ int between(int low, int high) { return (low & high) + ((low ^ high) >> 1); }

// All scores of a step, held by the threads of one block: token 2 · (thread + 512 · i) + half.
struct Sampling {
  Worker& worker;
  float scores[2 * THREAD_PAIRS];
  int buffer = 0;

  __device__ explicit Sampling(Worker& worker) : worker(worker) {}

  __device__ __forceinline__ int token_of(int i) const { return 2 * (worker.thread + (i / 2) * THREADS) + i % 2; }

  // A figure of each warp becomes one of the block, in every thread. Buffers are used in turn: who reads one is at the
  // next barrier before the other is written again.
  template <typename T, typename Join>
  __device__ __forceinline__ T join_block(T value, Join join) {
#pragma unroll
    for (int distance = 16; distance; distance >>= 1) value = join(value, (T)__shfl_xor_sync(~0u, value, distance));
    T* of_warps = (T*)worker.shared.reduced[buffer];
    if (worker.lane == 0) of_warps[worker.warp] = value;
    worker.meet();
    value = of_warps[0];
#pragma unroll
    for (int w = 1; w < WARPS; w++) value = join(value, of_warps[w]);
    buffer ^= 1;
    return value;
  }
  __device__ __forceinline__ float largest_of(float value) {
    return join_block(value, [](float a, float b) { return fmaxf(a, b); });
  }
  __device__ __forceinline__ float sum_of(float value) {
    return join_block(value, [](float a, float b) { return a + b; });
  }
  __device__ __forceinline__ int count_of(int value) {
    return join_block(value, [](int a, int b) { return a + b; });
  }

  template <typename Keep>
  __device__ __forceinline__ void keep_only(Keep keep) {
#pragma unroll
    for (int i = 0; i < 2 * THREAD_PAIRS; i++)
      if (!keep(scores[i], token_of(i))) scores[i] = minus_infinity();
  }

  // The largest key that at least k keys exceed.
  __device__ __forceinline__ int below_top_k(int top_k, float largest) {
    int low = key_of(minus_infinity()), high = key_of(largest), middle = between(low, high);
    while (low < middle && middle < high) {
      int above = 0;
#pragma unroll
      for (int i = 0; i < 2 * THREAD_PAIRS; i++) above += key_of(scores[i]) > middle;
      above = count_of(above);
      if (above >= top_k) low = middle;
      else high = middle;
      middle = above == top_k ? low : between(low, high);
    }
    return low;
  }

  // Drops what an ascending cumulative sum has before it exceeds 1 − p.
  __device__ __forceinline__ void apply_top_p(float top_p, float largest) {
    float mass = 0;
#pragma unroll
    for (int i = 0; i < 2 * THREAD_PAIRS; i++) mass += __expf(scores[i] - largest);
    const float total = sum_of(mass), dropped = (1.f - top_p) * total;
    int low = key_of(minus_infinity()), high = key_of(largest), middle = between(low, high);
    float low_mass = 0, high_mass = total;
    while (low < middle && middle < high) {
      mass = 0;
#pragma unroll
      for (int i = 0; i < 2 * THREAD_PAIRS; i++) mass += key_of(scores[i]) <= middle ? __expf(scores[i] - largest) : 0.f;
      mass = sum_of(mass);
      if (mass <= dropped) low = middle, low_mass = mass;
      else high = middle, high_mass = mass;
      // Less than two of what is between can weigh so little: one is there, which is the first to stay.
      const float least = __expf(score_of(low) - largest);
      const bool alone = high_mass - low_mass < 1.5f * least && least > 1e-5f * total;
      middle = alone ? low : between(low, high);
    }
    // Of equal scores at the boundary as many of the first go as the sum has room for, but never all.
    int equal = 0;
#pragma unroll
    for (int i = 0; i < 2 * THREAD_PAIRS; i++) equal += key_of(scores[i]) == high;
    equal = count_of(equal);
    const int room = min((int)floorf((dropped - low_mass) / __expf(score_of(high) - largest)), equal - 1);
    int last_dropped = -1;
    if (room > 0) {
      int below = -1, at = VOCABULARY;  // the token up to which there are `room` of them
      while (at - below > 1) {
        const int split = (below + at) / 2;
        int count = 0;
#pragma unroll
        for (int i = 0; i < 2 * THREAD_PAIRS; i++) count += key_of(scores[i]) == high && token_of(i) <= split;
        if (count_of(count) >= room) at = split;
        else below = split;
      }
      last_dropped = at;
    }
    const int boundary = low, equal_key = high;
    keep_only([=](float score, int token) {
      const int key = key_of(score);
      return key > boundary && (key != equal_key || token > last_dropped);
    });
  }

  // Keys and values are done with until the next token; what a thread fetches, it alone reads.
  __device__ __forceinline__ static float* noise(Shared& shared) { return (float*)shared.keys; }
  __device__ __forceinline__ static void fetch_noise(Worker& worker, const float* race) {
#pragma unroll
    for (int i = 0; i < THREAD_PAIRS; i++) {
      const int pair = worker.thread + i * THREADS;
      if (pair < TOKEN_PAIRS) copy_8_bytes(shared_address(noise(worker.shared) + 2 * pair), race + 2 * pair);
    }
    commit_copies();
  }

  // Reads what all blocks made of the last step, and draws.
  __device__ __forceinline__ int draw(const Settings& settings) {
    read_scores();
    float most = NOTHING;
#pragma unroll
    for (int i = 0; i < 2 * THREAD_PAIRS; i++) most = fmaxf(most, scores[i]);
    const float largest = largest_of(most);
    const int top_k = (int)settings.top_k;
    if (top_k > 0 && top_k < VOCABULARY) {
      const int boundary = below_top_k(top_k, largest);
      keep_only([=](float score, int) { return key_of(score) > boundary; });
    }
    const float min_p = settings.min_p;
    keep_only([=](float score, int) { return !(__expf(score - largest) < min_p); });
    if (settings.top_p < 1) apply_top_p(settings.top_p, largest);
    // Who finishes first wins; of equals, and where nothing is finite, the first token.
    wait_for_copies();
    u64 best = 0;
#pragma unroll
    for (int i = 0; i < 2 * THREAD_PAIRS; i++) {
      const float finish = divide_fast(__expf(scores[i] - largest), noise(worker.shared)[token_of(i)]);
      const u64 rank = finish >= 0 ? __float_as_uint(finish) : 0;
      const u64 own = rank << 32 | (0xffffffffu - (u32)token_of(i));
      if (token_of(i) < VOCABULARY && own > best) best = own;
    }
    best = join_block(best, [](u64 a, u64 b) { return a > b ? a : b; });
    return (int)(0xffffffffu - (u32)best);
  }

  __device__ __forceinline__ void read_scores() {
    const Slot* slots = worker.arguments.slots->scores;
    uint4 found[THREAD_PAIRS];
    bool ready;
    int tries = 0;
    do {
      ready = true;
#pragma unroll
      for (int i = 0; i < THREAD_PAIRS; i++) {
        const int pair = worker.thread + i * THREADS;
        if (pair >= TOKEN_PAIRS) continue;
        found[i] = load_two_slots(slots + 2 * pair);
        ready &= found[i].y == worker.epoch & found[i].w == worker.epoch;
      }
    } while (!ready && (++tries % TRIES_BEFORE_CLOCK != 0 || !worker.gives_up()));
#pragma unroll
    for (int i = 0; i < THREAD_PAIRS; i++) {
      const bool inside = worker.thread + i * THREADS < TOKEN_PAIRS;
      scores[2 * i] = inside ? __uint_as_float(found[i].x) : minus_infinity();
      scores[2 * i + 1] = inside ? __uint_as_float(found[i].z) : minus_infinity();
    }
  }
};
