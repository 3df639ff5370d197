// The kernels of tests/gpu/test_emulation.py: right ones, and wrong ones that must be noticed.
constexpr int kThreads = 64;

__constant__ double table[4] = {1, 1, 1, 1};
__device__ double counter[1];

template <class T> __device__ __forceinline__ T twice(T x) { return x + x; }

extern "C" __global__ void scale(const double* __restrict__ x, double* __restrict__ y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = twice(x[i]);
}

extern "C" {

__global__ void add_to(const double* x, double* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += x[i];
}

__global__ void __launch_bounds__(kThreads, 1) bounded(const double* x, double* y, int n) {
  if (threadIdx.x < n) y[threadIdx.x] = sqrt(x[threadIdx.x]);
}

// Sums each block in shared memory.
__global__ void __launch_bounds__(kThreads) block_sum(const double* x, double* y, int n) {
  __shared__ double part[kThreads], unused;
  const int t = threadIdx.x;
  const int i = blockIdx.x * kThreads + t;
  part[t] = i < n ? x[i] : 0.0;
  __syncthreads();
  for (int width = kThreads / 2; width > 0; width /= 2) {
    if (t < width) part[t] += part[t + width];
    __syncthreads();
  }
  if (t == 0) y[blockIdx.x] = part[0];
}

// The same with shared memory that the launch provides, and shuffles.
__global__ void warp_sum(const double* x, double* y, int n) {
  extern __shared__ double part[];
  const int t = threadIdx.x;
  const int i = blockIdx.x * kThreads + t;
  double value = i < n ? x[i] : 0.0;
  for (int delta = warpSize / 2; delta > 0; delta /= 2) {
    value += __shfl_sync(0xffffffffu, value, t % warpSize + delta);
  }
  if (t % warpSize == 0) part[t / warpSize] = value;
  __syncthreads();
  if (t == 0) y[blockIdx.x] = part[0] + part[1];
}

// Reads the neighbour's value without waiting for it.
__global__ void missing_barrier(const double* x, double* y, int n) {
  __shared__ double part[kThreads];
  const int t = threadIdx.x;
  const int i = blockIdx.x * kThreads + t;
  part[t] = 0;
  __syncthreads();
  part[t] = i < n ? x[i] : 0.0;
  const double left = t > 0 ? part[t - 1] : 0.0;
  __syncthreads();
  if (i < n) y[i] = left;
}

// Half of the block waits.
__global__ void divergent(const double* x, double* y, int n) {
  if (threadIdx.x < kThreads / 2) __syncthreads();
  if (threadIdx.x < n) y[threadIdx.x] = x[threadIdx.x];
}

// All but the first thread wait.
__global__ void divergent_late(const double* x, double* y, int n) {
  if (threadIdx.x == 0) return;
  __syncthreads();
  if (threadIdx.x < n) y[threadIdx.x] = x[threadIdx.x];
}

// Reads shared memory that only the first block writes.
__global__ void stale_shared(const double*, double* y, int n) {
  __shared__ double kept;
  if (blockIdx.x == 0 && threadIdx.x == 0) kept = 1;
  __syncthreads();
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i < n) y[i] = kept;
}

// Writes one element too far.
__global__ void beyond(const double* x, double* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) y[i] = x[i < n ? i : 0];
}

__global__ void use_table(const double* x, double* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = table[i % 4] + counter[0];
}
}
