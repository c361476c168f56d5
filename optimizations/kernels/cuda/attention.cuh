// One block's share of attention: one head of one row, a part of the positions so far.
#pragma once
#include "worker.cuh"

struct Attention {
  Worker& worker;
  const int head, row, split;
  const int group, dim;  // of eight lanes, each of which holds eight dimensions of one position at a time
  int position, first, last;
  bool has_new;  // the last split's last warp also attends to the present position, and writes it to the cache
  const char *keys, *values;

  __device__ explicit Attention(Worker& worker)
      : worker(worker), head(worker.block / SPLITS % HEADS), row(worker.block / SPLITS / HEADS),
        split(worker.block % SPLITS), group(worker.lane >> 3), dim((worker.lane & 7) * 8),
        has_new(split == SPLITS - 1 && worker.warp == WARPS - 1) {}

  __device__ __forceinline__ void begin_token(int at) {
    const int share = (at + SPLITS - 1) / SPLITS;
    position = at, first = split * share, last = min(at, first + share);
    if (worker.thread < HEAD / 2)
      worker.shared.rotary[worker.thread] = worker.arguments.rotary[at * (HEAD / 2) + worker.thread];
  }

  // The first window is on its way while queries are made; in registers it would be spilled (0.52 → 0.44 ms a token).
  __device__ __forceinline__ void begin_layer(int layer) {
    const long long row_of_cache = (long long)(row * HEADS + head) * worker.arguments.cache_positions * HEAD * 2;
    keys = worker.arguments.caches[layer] + row_of_cache;
    values = worker.arguments.caches[LAYERS + layer] + row_of_cache;
    fetch_window(first);
  }

  // A thread reads only what it fetched itself, so that a window needs no barrier.
  __device__ __forceinline__ void fetch_window(int from) const {
#pragma unroll
    for (int i = 0; i < WINDOW / 64; i++) {
      const int slot = i * 64 + worker.warp * 4 + group, at = from + slot;
      if (at < last) {
        copy_16_bytes(shared_address(worker.shared.keys + (slot * HEAD + dim) * 2), keys + (at * HEAD + dim) * 2);
        copy_16_bytes(shared_address(worker.shared.values + (slot * HEAD + dim) * 2), values + (at * HEAD + dim) * 2);
      }
    }
    commit_copies();
  }

  // Query, key and value of the present position, from the blocks that made them.
  __device__ __forceinline__ void read_head(const LayerSlots& slots) const {
    const int part = worker.thread >> 4, four = worker.thread & 15;
    if (part < 3) {
      const uint4 found =
          worker.read_two_slots(slots.qkv + (row * 3 + part) * PAIRS + head * (HEAD / 2) + four * 2);
      *(float4*)(worker.shared.head[part] + four * 4) =
          make_float4(low(found.x), high(found.x), low(found.z), high(found.z));
    }
  }

  // Eight dimensions of a query or key, turned by the position's angles.
  __device__ __forceinline__ void turn(float (&turned)[8], const float* vector, float scale) const {
    const float sign = dim < HEAD / 2 ? -1.f : 1.f;
    const float4 a = *(const float4*)(vector + dim), b = *(const float4*)(vector + dim + 4);
    const float4 c = *(const float4*)(vector + (dim ^ 32)), d = *(const float4*)(vector + (dim ^ 32) + 4);
    const float own[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}, other[8] = {c.x, c.y, c.z, c.w, d.x, d.y, d.z, d.w};
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float2 angle = worker.shared.rotary[(dim + i) & 31];
      turned[i] = (own[i] * angle.x + sign * other[i] * angle.y) * scale;
    }
  }

  __device__ __forceinline__ float dot(const uint4& key, const float (&query)[8]) const {
    return low(key.x) * query[0] + high(key.x) * query[1] + low(key.y) * query[2] + high(key.y) * query[3] +
           low(key.z) * query[4] + high(key.z) * query[5] + low(key.w) * query[6] + high(key.w) * query[7];
  }

  // Turns and keeps the present position's key, keeps its value, and returns its score.
  __device__ __forceinline__ float score_new(const float (&query)[8]) const {
    float key[8];
    turn(key, worker.shared.head[1], 1.f);
    const uint4 kept = make_uint4(pack(key[0], key[1]), pack(key[2], key[3]), pack(key[4], key[5]), pack(key[6], key[7]));
    if (group == 0) {
      const float* value = worker.shared.head[2] + dim;
      const long long at = ((long long)position * HEAD + dim) * 2;
      *(uint4*)(keys + at) = kept;
      *(uint4*)(values + at) = make_uint4(pack(value[0], value[1]), pack(value[2], value[3]), pack(value[4], value[5]),
                                          pack(value[6], value[7]));
    }
    float score = dot(kept, query);
#pragma unroll
    for (int distance = 1; distance < 8; distance <<= 1) score += __shfl_xor_sync(~0u, score, distance);
    return group == 0 ? score : -1e30f;
  }

  // What this block's positions give, with the largest score and the sum of weights that others need to join it.
  __device__ __forceinline__ void attend(LayerSlots& slots) {
    read_head(slots);
    wait_for_copies();
    worker.meet();
    float query[8], sums[8] = {}, weight = 0, largest = -1e20f, score_of_new = -1e30f;
    turn(query, worker.shared.head[0], 0.125f);  // 1 / √64
    if (has_new) {
      score_of_new = score_new(query);
      largest = fmaxf(largest, score_of_new);
    }
    for (int from = first; from < last; from += WINDOW) {
      if (from != first) wait_for_copies();
      add_window(from, query, sums, weight, largest);
      if (from + WINDOW < last) fetch_window(from + WINDOW);
    }
    if (has_new) {  // not all groups of the warp have seen it
      const float before = largest;
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 8));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 16));
      rescale(sums, weight, __expf(before - largest));
      if (group == 0) {
        const float e = __expf(score_of_new - largest);
        weight += e;
#pragma unroll
        for (int i = 0; i < 8; i++) sums[i] += e * worker.shared.head[2][dim + i];
      }
    }
    join_warps(slots, sums, weight, largest);
  }

  __device__ __forceinline__ static void rescale(float (&sums)[8], float& weight, float factor) {
    weight *= factor;
#pragma unroll
    for (int i = 0; i < 8; i++) sums[i] *= factor;
  }

  __device__ __forceinline__ void add_window(int from, const float (&query)[8], float (&sums)[8], float& weight,
                                             float& largest) const {
    constexpr int EACH = WINDOW / 64;
    float scores[EACH], before = largest;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int slot = i * 64 + worker.warp * 4 + group;
      scores[i] = from + slot < last ? dot(*(const uint4*)(worker.shared.keys + (slot * HEAD + dim) * 2), query) : -1e30f;
    }
#pragma unroll
    for (int distance = 1; distance < 8; distance <<= 1)
#pragma unroll
      for (int i = 0; i < EACH; i++) scores[i] += __shfl_xor_sync(~0u, scores[i], distance);
#pragma unroll
    for (int i = 0; i < EACH; i++) largest = fmaxf(largest, scores[i]);
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 8));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 16));
    rescale(sums, weight, __expf(before - largest));
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int slot = i * 64 + worker.warp * 4 + group;
      if (from + slot < last) {
        const float e = __expf(scores[i] - largest);
        const uint4 value = *(const uint4*)(worker.shared.values + (slot * HEAD + dim) * 2);
        weight += e;
        sums[0] += e * low(value.x), sums[1] += e * high(value.x), sums[2] += e * low(value.y);
        sums[3] += e * high(value.y), sums[4] += e * low(value.z), sums[5] += e * high(value.z);
        sums[6] += e * low(value.w), sums[7] += e * high(value.w);
      }
    }
  }

  // Groups of a warp, then warps of the block; the first warp publishes.
  __device__ __forceinline__ void join_warps(LayerSlots& slots, float (&sums)[8], float weight, float largest) const {
    float* all = (float*)worker.shared.staged;
#pragma unroll
    for (int distance = 8; distance < 32; distance <<= 1) {
      weight += __shfl_xor_sync(~0u, weight, distance);
#pragma unroll
      for (int i = 0; i < 8; i++) sums[i] += __shfl_xor_sync(~0u, sums[i], distance);
    }
    if (group == 0) {
      float* own = all + worker.warp * ATTENDED_STRIDE;
      *(float4*)(own + dim) = make_float4(sums[0], sums[1], sums[2], sums[3]);
      *(float4*)(own + dim + 4) = make_float4(sums[4], sums[5], sums[6], sums[7]);
      if (worker.lane == 0) own[HEAD] = largest, own[HEAD + 1] = weight;
    }
    worker.meet();
    if (worker.warp == 0) {
      const int of = worker.lane % WARPS;
      const float its_largest = all[of * ATTENDED_STRIDE + HEAD];
      float most = its_largest;
#pragma unroll
      for (int distance = 8; distance; distance >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, distance));
      const float factor = __expf(its_largest - most);
      float total = all[of * ATTENDED_STRIDE + HEAD + 1] * factor;
#pragma unroll
      for (int distance = 8; distance; distance >>= 1) total += __shfl_xor_sync(~0u, total, distance);
      float first_dim = 0, second_dim = 0;
#pragma unroll
      for (int w = 0; w < WARPS; w++) {
        const float its = __shfl_sync(~0u, factor, w);
        const float2 pair = *(const float2*)(all + w * ATTENDED_STRIDE + worker.lane * 2);
        first_dim += pair.x * its, second_dim += pair.y * its;
      }
      const float part = total > 0 ? 1.f / total : 0.f;
      store_slot(slots.attended + worker.block * (HEAD / 2) + worker.lane, pack(first_dim * part, second_dim * part),
                 worker.epoch);
      if (worker.lane == 0)
        store_two_slots(slots.softmax + worker.block * 2, __float_as_uint(most), __float_as_uint(total), worker.epoch);
    }
    worker.meet();  // what the sums were in is free
  }

  // All heads of all rows, joined over their splits, become the operand of the output projection.
  __device__ __forceinline__ void join_splits(const LayerSlots& slots) const {
    Shared& shared = worker.shared;
    uint4 found[ATTENDED_SLOTS / 2 / THREADS];
    worker.read_slots(found, slots.attended + worker.thread * 2, 2 * THREADS);
#pragma unroll
    for (int i = 0; i < ATTENDED_SLOTS / 2 / THREADS; i++)
      *(uint2*)(shared.staged + (i * THREADS + worker.thread) * 2) = make_uint2(found[i].x, found[i].z);
    if (worker.thread < BLOCKS) {
      const uint4 both = worker.read_two_slots(slots.softmax + worker.thread * 2);
      shared.softmax[worker.thread] = make_float2(__uint_as_float(both.x), __uint_as_float(both.z));
    }
    worker.meet();
    if (!worker.holds_row) return worker.clear_operand();
    const int first_block = (worker.row * HEADS + worker.warp) * SPLITS;  // a warp's columns are one head
    float parts[SPLITS], most = -1e30f, total = 0, joined[16] = {};
#pragma unroll
    for (int s = 0; s < SPLITS; s++) most = fmaxf(most, shared.softmax[first_block + s].x);
#pragma unroll
    for (int s = 0; s < SPLITS; s++) {
      const float2 its = shared.softmax[first_block + s];
      parts[s] = its.y * __expf(its.x - most);
      total += parts[s];
    }
#pragma unroll
    for (int s = 0; s < SPLITS; s++) {
      const uint4* columns = (const uint4*)(shared.staged + (first_block + s) * (HEAD / 2) + worker.quad * 8);
      const uint4 a = columns[0], b = columns[1];
      const u32 pairs[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
      const float part = parts[s] / total;
#pragma unroll
      for (int i = 0; i < 8; i++) joined[2 * i] += part * low(pairs[i]), joined[2 * i + 1] += part * high(pairs[i]);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) worker.operand[i] = pack(joined[2 * i], joined[2 * i + 1]);
  }
};
