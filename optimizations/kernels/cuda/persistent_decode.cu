// Many tokens of T3 (a Llama of hidden size 1024) in one launch, near the limit of memory.
//
// 128 blocks stay on as many multiprocessors. In each, one warp streams the block's share of all weights through a ring in
// shared memory and never waits for activations; 16 warps compute. Each matrix is divided by rows. Blocks hand activations
// to each other through slots in L2 that carry their own signal, five times a layer: after qkv, attention, output
// projection, gate and up, down. Norms, residuals and the sampler's settings need no exchange of their own.
//
// The launch has to be cooperative: a block that waits for one that is not resident would wait forever.
#include "attention.cuh"
#include "sampling.cuh"

// More chunks on their way fill the memory system, and slots wait behind them: 1 → 0.52 ms a token, 2 → 0.57, 6 → 0.64.
#ifndef CHUNKS_IN_FLIGHT
#define CHUNKS_IN_FLIGHT 1
#endif

__device__ __forceinline__ int head_chunks_of(int block) { return (HEAD_TILES - block + BLOCKS - 1) / BLOCKS; }

// Of the block's rows of the head, counted through its chunks.
__device__ __forceinline__ int token_of_row(int block, int row) {
  return (row / CHUNK_ROWS * BLOCKS + block) * CHUNK_ROWS + row % CHUNK_ROWS;
}

// One thread; everything that the others multiply passes through here in the order of its use.
__device__ void stream_weights(const Arguments& arguments, Shared& shared) {
  const char* weights = arguments.weights + (long long)blockIdx.x * BLOCK_CHUNKS * CHUNK_BYTES;
  const int chunks = LAYERS * LAYER_CHUNKS + head_chunks_of(blockIdx.x);
  int stage = 0, phase = 1, before = (RING_CHUNKS - CHUNKS_IN_FLIGHT) % RING_CHUNKS, phase_before = 1;
  for (int token = 0; token < arguments.tokens; token++)
    for (int chunk = 0; chunk < chunks; chunk++) {
      while (!phase_is_over(shared.empty + stage, phase))
        if (shared.leaving) {  // what is on its way must not arrive in another kernel's shared memory
          for (int i = 0; i < CHUNKS_IN_FLIGHT; i++) {
            if (token || chunk >= CHUNKS_IN_FLIGHT - i) wait_for(shared.full + before, phase_before);
            if (++before == RING_CHUNKS) before = 0, phase_before ^= 1;
          }
          return;
        }
      if (token || chunk >= CHUNKS_IN_FLIGHT) wait_for(shared.full + before, phase_before);
      copy_in_bulk(shared.ring[stage], weights + (long long)chunk * CHUNK_BYTES, CHUNK_BYTES, shared.full + stage);
      if (++stage == RING_CHUNKS) stage = 0, phase ^= 1;
      if (++before == RING_CHUNKS) before = 0, phase_before ^= 1;
    }
}

// The two sums of squares and products of a hidden state are one pass over it.
template <int N>
__device__ __forceinline__ void multiply_hidden(Worker& worker, u32 first, u32 second, int count = N) {
  worker.turn ^= 1;
  worker.stage_hidden(first, second);
  worker.note_squares(first, second);
  worker.multiply_chunks<N>(count);
  worker.meet();
}

// Two tokens' logits of one row; guidance joins the rows, and what of the sampler's work needs no other token follows.
__device__ __forceinline__ void publish_scores(Worker& worker, int made) {
  const Arguments& arguments = worker.arguments;
  Shared& shared = worker.shared;
  const int chunk = worker.thread >> 3, row = (worker.thread >> 2) & 1, own = chunk * CHUNK_ROWS + worker.quad * 2;
  const int token = token_of_row(worker.block, own);
  const bool has_tokens = chunk < HEAD_CHUNKS && row < ROWS && token < VOCABULARY;
  float2 logits = make_float2(0, 0);
  if (has_tokens) {
    logits = worker.add_up(chunk, row, worker.quad);
    const float scale = worker.norm_scale(row);
    logits = make_float2(logits.x * scale + shared.bias[own], logits.y * scale + shared.bias[own + 1]);
    if (arguments.logits) {
      float* shown = arguments.logits + ((long long)made * ROWS + row) * VOCABULARY + token;
      shown[0] = logits.x;
      shown[1] = logits.y;
    }
  }
  const Settings& settings = shared.settings;
  if (ROWS == 2) {
    const float other_first = __shfl_xor_sync(~0u, logits.x, 4), other_second = __shfl_xor_sync(~0u, logits.y, 4);
    logits.x += settings.cfg_weight * (logits.x - other_first);
    logits.y += settings.cfg_weight * (logits.y - other_second);
  }
  if (!has_tokens || row) return;
  float scores[2] = {logits.x, logits.y};
#pragma unroll
  for (int i = 0; i < 2; i++) {
    if (shared.seen[own + i])
      scores[i] = scores[i] < 0 ? scores[i] * settings.repetition_penalty : scores[i] / settings.repetition_penalty;
    if (settings.temperature > 0) scores[i] /= settings.temperature;
    if (scores[i] == 0) scores[i] = 0;  // −0 and 0 are one float and two bit patterns
  }
  store_two_slots(arguments.slots->scores + token, __float_as_uint(scores[0]), __float_as_uint(scores[1]), worker.epoch);
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.f + __expf(-x)); }

// What the host has to know, and to have alike.
extern "C" __constant__ const int sizes[] = {sizeof(Shared), sizeof(Slots), sizeof(Arguments), sizeof(State),
                                             BLOCKS, THREADS + 32};

extern "C" __global__ void __launch_bounds__(THREADS + 32, 1) persistent_decode(const __grid_constant__ Arguments arguments) {
  extern __shared__ __align__(128) char shared_memory[];
  Shared& shared = *(Shared*)shared_memory;
  const State state = *arguments.state;
  if (state.stopped || state.gave_up || arguments.tokens <= 0) return;
  if (threadIdx.x == 0) {
    for (int i = 0; i < RING_CHUNKS; i++) init_barrier(shared.full + i, 1), init_barrier(shared.empty + i, WARPS);
    shared.leaving = shared.gave_up = 0;
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x >= THREADS) {
    if (threadIdx.x == THREADS) stream_weights(arguments, shared);
    return;
  }

  Worker worker(arguments, shared);
  Attention attention(worker);
  const int thread = worker.thread, block = worker.block;
  if (thread == 0) {
    shared.settings = *arguments.settings;
    shared.first_step = state.step, shared.first_position = state.position;
  }
  if (thread < HEAD_CHUNKS * CHUNK_ROWS) {
    const int mine = token_of_row(block, thread);
    shared.bias[thread] = mine < VOCABULARY ? arguments.head_bias[mine] : 0;
    shared.seen[thread] = mine < VOCABULARY && arguments.seen[mine];
  }
  worker.meet();
  const bool keeps_hidden = thread < 8 && worker.holds_row;  // two columns of one row, in single precision
  float own_first = 0, own_second = 0;
  int token = state.token, made = 0;
  bool stopped = false;
  while (made < arguments.tokens && !stopped) {
    const int step = shared.first_step + made;
    attention.begin_token(shared.first_position + made);
    // Token and step are added in the model's own precision, as PyTorch adds them.
    const int columns = thread % (WIDTH / 4) * 4;
    const uint2 of_step = *(const uint2*)(arguments.step_embeddings + ((long long)step * WIDTH + columns) * 2);
    const uint2 of_token = *(const uint2*)(arguments.token_embeddings + ((long long)token * WIDTH + columns) * 2);
    u32 first = pack(low(of_token.x) + low(of_step.x), high(of_token.x) + high(of_step.x));
    u32 second = pack(low(of_token.y) + low(of_step.y), high(of_token.y) + high(of_step.y));

    for (int layer = 0; layer < LAYERS; layer++) {
      LayerSlots& slots = arguments.slots->layers[layer];
      attention.begin_layer(layer);
      if (layer) {
        const uint4 hidden = thread < HIDDEN_READERS
            ? worker.read_two_slots(arguments.slots->layers[layer - 1].after_mlp + thread * 2) : make_uint4(0, 0, 0, 0);
        first = hidden.x, second = hidden.z;
      }
      // ---- query, key, value
      multiply_hidden<QKV_CHUNKS>(worker, first, second);
      if (layer == 0 && keeps_hidden) {
        const u32 own = shared.staged[worker.row * PAIRS + block * 4 + worker.quad];
        own_first = low(own), own_second = high(own);
      }
      if (thread < 8 * QKV_CHUNKS) {
        const int chunk = thread >> 3, row = (thread >> 2) & 1;
        if (row < ROWS) {
          const float2 sum = worker.add_up(chunk, row, worker.quad);
          const float scale = worker.norm_scale(row);
          store_slot(slots.qkv + row * 3 * PAIRS + (block * QKV_CHUNKS + chunk) * 4 + worker.quad,
                     pack(sum.x * scale, sum.y * scale), worker.epoch);
        }
      }
      // ---- attention
      attention.attend(slots);
      attention.join_splits(slots);
      // ---- output projection, and the residual
      worker.turn ^= 1;
      worker.multiply_chunks<OUT_CHUNKS>();
      worker.meet();
      if (keeps_hidden) {
        const float2 sum = worker.add_up(0, worker.row, worker.quad);
        own_first += sum.x, own_second += sum.y;
        store_slot(slots.after_attention + worker.row * PAIRS + block * 4 + worker.quad, pack(own_first, own_second),
                   worker.epoch);
      }
      // ---- gate and up, whose chunks alternate
      const uint4 hidden = thread < HIDDEN_READERS ? worker.read_two_slots(slots.after_attention + thread * 2)
                                                   : make_uint4(0, 0, 0, 0);
      multiply_hidden<GATE_UP_CHUNKS>(worker, hidden.x, hidden.z);
      if (thread < 4 * GATE_UP_CHUNKS) {
        const int pair = thread >> 3, row = (thread >> 2) & 1;
        if (row < ROWS) {
          const float2 gate = worker.add_up(2 * pair, row, worker.quad), up = worker.add_up(2 * pair + 1, row, worker.quad);
          const float scale = worker.norm_scale(row);
          store_slot(slots.gated + row * (MLP / 2) + block * 2 * GATE_UP_CHUNKS + pair * 4 + worker.quad,
                     pack(silu(gate.x * scale) * up.x * scale, silu(gate.y * scale) * up.y * scale), worker.epoch);
        }
      }
      // ---- down, and the residual
      {
        worker.turn ^= 1;
        uint4 gated[MLP_SLOTS / 2 / THREADS];
        worker.read_slots(gated, slots.gated + thread * 2, 2 * THREADS);
#pragma unroll
        for (int i = 0; i < MLP_SLOTS / 2 / THREADS; i++)
          *(uint2*)(shared.staged + (i * THREADS + thread) * 2) = make_uint2(gated[i].x, gated[i].z);
        worker.meet();
        float sums[2][4] = {};  // two, so that one product need not wait for the one before
#pragma unroll
        for (int i = 0; i < DOWN_CHUNKS; i++) {
          worker.load_operand(shared.staged + worker.row * (MLP / 2) + i * PAIRS + worker.warp * 32 + worker.quad * 8);
          worker.multiply(sums[i & 1]);
        }
        sums[0][0] += sums[1][0], sums[0][1] += sums[1][1];
        worker.put_partial(0, sums[0]);
        worker.meet();
        if (keeps_hidden) {
          const float2 sum = worker.add_up(0, worker.row, worker.quad);
          own_first += sum.x, own_second += sum.y;
          store_slot(slots.after_mlp + worker.row * PAIRS + block * 4 + worker.quad, pack(own_first, own_second),
                     worker.epoch);
        }
      }
    }

    // ---- head, guidance, and what of the sampler's work needs no other token
    if (attention.has_new) __threadfence();  // another block may have this position's key and value in its share next
    if (block == SAMPLING_BLOCK) Sampling::fetch_noise(worker, arguments.race + (long long)made * VOCABULARY);
    const uint4 hidden = thread < HIDDEN_READERS
        ? worker.read_two_slots(arguments.slots->layers[LAYERS - 1].after_mlp + thread * 2) : make_uint4(0, 0, 0, 0);
    multiply_hidden<HEAD_CHUNKS>(worker, hidden.x, hidden.z, head_chunks_of(block));
    if (thread < (8 * HEAD_CHUNKS + 31) / 32 * 32) publish_scores(worker, made);

    // ---- the draw, by one block for all
    if (block == SAMPLING_BLOCK) {
      int drawn = Sampling(worker).draw(shared.settings);
      if (thread == 0) {
        if (arguments.forced && arguments.forced[step] >= 0) drawn = (int)arguments.forced[step];
        store_two_slots(arguments.slots->token, drawn, 0, worker.epoch);
        if (!shared.gave_up) arguments.drawn[step] = drawn;
      }
    }
    if (thread == 0) {
      const int taken = (int)worker.read_two_slots(arguments.slots->token).x;
      shared.token = shared.gave_up ? -1 : taken;
    }
    worker.meet();
    token = shared.token;
    if (token < 0) break;  // the watchdog's word; every thread of the block reads the same
    if (thread < HEAD_CHUNKS * CHUNK_ROWS && token == token_of_row(block, thread))
      shared.seen[thread] = true, arguments.seen[token] = 1;
    stopped = token == arguments.stop_token;
    made++, worker.epoch++;
  }

  if (thread == 0) shared.leaving = 1;
  if (block == SAMPLING_BLOCK && thread == 0) {
    State* left = arguments.state;
    left->token = token, left->step = shared.first_step + made, left->position = shared.first_position + made;
    left->stopped = stopped, left->epoch = worker.epoch;
  }
}
