// Sizes, and where everything is: in the packed weights, in the slots between blocks, in shared memory.
#pragma once
#include "hardware.cuh"

// The compiler is told VOCABULARY, LAYERS, ROWS (2 with guidance, else 1) and FP16 (0: bf16).
constexpr int BLOCKS = 128;  // divides every dimension of T3; an H200 has 132 multiprocessors, so 4 are left to others
constexpr int WARPS = 16, THREADS = 32 * WARPS;  // that compute; one warp more streams the weights
constexpr int WIDTH = 1024, MLP = 4096, HEADS = 16, HEAD = 64, PAIRS = WIDTH / 2;
constexpr int SPLITS = BLOCKS / (ROWS * HEADS);  // blocks that share the positions of one head of one row
static_assert(ROWS == 1 || ROWS == 2, "rows of the activations");
static_assert(WIDTH == WARPS * 64 && HEADS == WARPS, "each warp multiplies 64 columns, which are one head");

// ---- weights: a chunk is 8 rows of 1024 columns, in the order in which lanes read them
constexpr int CHUNK_ROWS = 8, CHUNK_BYTES = CHUNK_ROWS * 1024 * 2;
constexpr int QKV_CHUNKS = 3 * WIDTH / BLOCKS / CHUNK_ROWS;
constexpr int OUT_CHUNKS = WIDTH / BLOCKS / CHUNK_ROWS;
constexpr int GATE_UP_CHUNKS = 2 * MLP / BLOCKS / CHUNK_ROWS;
constexpr int DOWN_CHUNKS = MLP / 1024;
constexpr int LAYER_CHUNKS = QKV_CHUNKS + OUT_CHUNKS + GATE_UP_CHUNKS + DOWN_CHUNKS;
// The head's 8194 rows leave a tail that the first blocks alone have; no block reads what is not there.
constexpr int HEAD_TILES = (VOCABULARY + CHUNK_ROWS - 1) / CHUNK_ROWS;
constexpr int HEAD_CHUNKS = (HEAD_TILES + BLOCKS - 1) / BLOCKS;
constexpr int BLOCK_CHUNKS = LAYERS * LAYER_CHUNKS + HEAD_CHUNKS;

// ---- slots, for each layer its own: a block may be a layer ahead of another, but never a token
constexpr int QKV_SLOTS = ROWS * 3 * PAIRS, ATTENDED_SLOTS = BLOCKS * HEAD / 2, SOFTMAX_SLOTS = BLOCKS * 2;
constexpr int HIDDEN_SLOTS = ROWS * PAIRS, MLP_SLOTS = ROWS * MLP / 2;
struct LayerSlots {
  Slot qkv[QKV_SLOTS];
  Slot attended[ATTENDED_SLOTS];
  Slot softmax[SOFTMAX_SLOTS];  // of each block: the largest score, and the sum of what the others weigh beside it
  Slot after_attention[HIDDEN_SLOTS];
  Slot gated[MLP_SLOTS];
  Slot after_mlp[HIDDEN_SLOTS];
};
constexpr int TOKEN_PAIRS = VOCABULARY / 2;
static_assert(VOCABULARY % 2 == 0, "tokens are handled in pairs");
struct Slots {
  LayerSlots layers[LAYERS];
  Slot scores[2 * TOKEN_PAIRS];
  Slot token[2];
};

// ---- what a launch reads and changes on the device; the host has the same in persistent_decode.py
struct State {
  int token, step, position;  // the last token, the number of the next draw, where the last token goes in the cache
  int stopped;                // the last token is the stop token: further launches do nothing
  u32 epoch;                  // of the next token; may wrap, since a slot only ever holds the present one or the last
  int gave_up;                // a block waited longer than `patience`
};

struct Settings {
  float cfg_weight, temperature, repetition_penalty, min_p, top_p, top_k;
};

struct Arguments {
  const char* weights;                // [BLOCKS][BLOCK_CHUNKS][CHUNK_BYTES]
  const char* token_embeddings;       // [VOCABULARY][WIDTH]
  const char* step_embeddings;        // [steps][WIDTH]
  const float* head_bias;             // [VOCABULARY]
  const float2* rotary;               // [positions][HEAD / 2], cosine and sine
  char* const* caches;                // keys of each layer, then values; each [ROWS][HEADS][cache_positions][HEAD]
  const Settings* settings;
  const float* race;                  // [tokens][VOCABULARY], exponential noise
  const long long* forced;            // [steps], negative where the draw is taken; may be null
  long long* drawn;                   // [steps]
  unsigned char* seen;                // [VOCABULARY], to be penalized
  float* logits;                      // [tokens][ROWS][VOCABULARY] to be shown; may be null
  Slots* slots;
  State* state;
  u64 patience;                       // nanoseconds
  int cache_positions, tokens, stop_token;
  float epsilon;                      // of RMSNorm
};

// ---- shared memory: 213 KB of 227
#ifndef RING_CHUNKS
#define RING_CHUNKS 8
#endif
constexpr int WINDOW = 192;                                     // positions of a block that shared memory holds
constexpr int PARTIAL_STRIDE = HEAD_CHUNKS * 16 + 4;            // of one warp: 16 sums a chunk, and one sum of squares
constexpr int SQUARES = HEAD_CHUNKS * 16;
constexpr int ATTENDED_STRIDE = HEAD + 4;
static_assert(HEAD_CHUNKS >= GATE_UP_CHUNKS && HEAD_CHUNKS >= QKV_CHUNKS, "the head's partial sums take most room");
struct Shared {
  alignas(128) char ring[RING_CHUNKS][CHUNK_BYTES];
  alignas(16) char keys[WINDOW * HEAD * 2];
  alignas(16) char values[WINDOW * HEAD * 2];
  alignas(16) u32 staged[BLOCKS * HEAD / 2];                    // activations that products read; attention's sums too
  alignas(16) float partial[2][WARPS][PARTIAL_STRIDE];          // used in turn, so that no barrier follows their reading
  alignas(16) float head[3][HEAD];                              // query, key and value of the present position
  float2 softmax[BLOCKS];
  float2 rotary[HEAD / 2];
  u64 full[RING_CHUNKS], empty[RING_CHUNKS];
  u64 reduced[2][WARPS];
  // What does not change in a launch, and of the block's own tokens whether they are penalized: registers are scarce.
  Settings settings;
  int first_step, first_position;
  float bias[HEAD_CHUNKS * CHUNK_ROWS];
  bool seen[HEAD_CHUNKS * CHUNK_ROWS];
  int token;
  volatile int leaving, gave_up;
};
static_assert(sizeof(u32) * BLOCKS * HEAD / 2 >= sizeof(float) * WARPS * ATTENDED_STRIDE, "attention's sums fit");
static_assert(BLOCKS * HEAD / 2 >= ROWS * MLP / 2, "the gated activations fit");
