// What the kernel asks of the hardware beyond plain C++: conversions, tensor cores, barriers in shared memory, bulk copies,
// and slots, through which blocks hand values to each other. No CUDA header is needed, so NVRTC finds all it compiles here.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ float minus_infinity() { return __int_as_float(0xff800000); }

// ---- two numbers of the model's type in 32 bits
#if FP16
__device__ __forceinline__ float low(u32 pair) {
  float value;
  asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, a;}" : "=f"(value) : "r"(pair));
  return value;
}
__device__ __forceinline__ float high(u32 pair) {
  float value;
  asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, b;}" : "=f"(value) : "r"(pair));
  return value;
}
__device__ __forceinline__ u32 pack(float first, float second) {
  u32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#else
__device__ __forceinline__ float low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ u32 pack(float first, float second) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#endif

// The 16-wide operand holds the activations, whose upper 8 rows are always zero; the 8-wide one holds weights.
__device__ __forceinline__ void multiply_tile(float (&sum)[4], u32 a0, u32 a2, u32 b0, u32 b1) {
  asm volatile(MMA " {%0, %1, %2, %3}, {%4, %5, %6, %5}, {%7, %8}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(a0), "r"(0), "r"(a2), "r"(b0), "r"(b1));
}

// Triton's division that is not rounded exactly: the sampler's race is decided with the same arithmetic as there.
__device__ __forceinline__ float divide_fast(float numerator, float denominator) {
  float quotient;
  asm("div.full.f32 %0, %1, %2;" : "=f"(quotient) : "f"(numerator), "f"(denominator));
  return quotient;
}

// ---- barriers in shared memory, and copies that complete on them
__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

__device__ __forceinline__ void init_barrier(u64* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}

__device__ __forceinline__ bool phase_is_over(u64* barrier, int parity) {
  u32 over;
  asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
               : "=r"(over) : "r"(shared_address(barrier)), "r"(parity) : "memory");
  return over;
}

__device__ __forceinline__ void wait_for(u64* barrier, int parity) {
  while (!phase_is_over(barrier, parity)) {}
}

__device__ __forceinline__ void arrive(u64* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Weights are read once a token, so they leave L2 first: exchanged activations stay. 0.452 → 0.448 ms a token.
__device__ __forceinline__ void copy_in_bulk(void* target, const void* source, int bytes, u64* barrier) {
  u64 policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;"
               ::"r"(shared_address(target)), "l"(source), "r"(bytes), "r"(shared_address(barrier)), "l"(policy) : "memory");
}

__device__ __forceinline__ void copy_16_bytes(u32 target, const void* source) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(source) : "memory");
}
__device__ __forceinline__ void copy_8_bytes(u32 target, const void* source) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(target), "l"(source) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

__device__ __forceinline__ u64 nanoseconds() {
  u64 time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  return time;
}

// ---- slots: 32 bits of data and the epoch that they belong to, written by one store of 8 bytes
//
// The data is its own signal: no barrier, no fence, one trip through L2 (0.78 µs, where a grid-wide barrier that hands over
// as much takes 1.35). Aligned accesses of 8 and 16 bytes are not torn, which NCCL's low-latency protocol relies on too.
struct Slot {
  u32 data, epoch;
};

__device__ __forceinline__ void store_slot(Slot* slot, u32 data, u32 epoch) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(slot), "r"(data), "r"(epoch) : "memory");
}

__device__ __forceinline__ void store_two_slots(Slot* slots, u32 first, u32 second, u32 epoch) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %2};"
               ::"l"(slots), "r"(first), "r"(epoch), "r"(second) : "memory");
}

// x and z are the data, y and w the epochs.
__device__ __forceinline__ uint4 load_two_slots(const Slot* slots) {
  uint4 both;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(both.x), "=r"(both.y), "=r"(both.z), "=r"(both.w) : "l"(slots) : "memory");
  return both;
}
