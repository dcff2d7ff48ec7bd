#include "device.hpp"

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>

namespace agf::cuda {
namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the error is told once
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw std::runtime_error(std::string("CUDA, ") + what + ": " + cudaGetErrorString(status));
}

cudaStream_t queue(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

}  // namespace

void* own_stream() { return cudaStreamPerThread; }

namespace {

// Calls take and give back the same room over and over: as much as they need stays with the process in between, where
// by default all of it goes back to the driver whenever a stream is waited for.
void keep_freed(int device) {
  constexpr int most_devices = 64;
  static std::once_flag done[most_devices];
  if (device < 0 || device >= most_devices) return;
  std::call_once(done[device], [device] {
    cudaMemPool_t pool = nullptr;
    std::uint64_t bytes = std::uint64_t{1} << 26;
    check(cudaDeviceGetDefaultMemPool(&pool, device), "the memory pool of a device");
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &bytes), "the memory pool of a device");
  });
}

}  // namespace

int device_count(std::string& why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  why = status == cudaSuccess ? "no CUDA device was found" : cudaGetErrorString(status);
  return 0;
}

std::string device_name(int device) {
  cudaDeviceProp facts;
  check(cudaGetDeviceProperties(&facts, device), "properties of a device");
  return facts.name;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "the current device");
  return device;
}

std::size_t free_bytes() {
  std::size_t free = 0, all = 0;
  check(cudaMemGetInfo(&free, &all), "the memory of a device");
  return free;
}

LoneStream::LoneStream() {
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "a stream");
  stream_.handle = made;
}
LoneStream::~LoneStream() { cudaStreamDestroy(queue(stream_)); }

OnDevice::OnDevice(int device) : before_(current_device()) {
  if (device != before_) check(cudaSetDevice(device), "choice of a device");
  keep_freed(device);
}
OnDevice::~OnDevice() { cudaSetDevice(before_); }

namespace {

// The limit is the device's: calls of several threads, or of a callback within a call, share it until the last is over.
// To set it may wait for what runs, and that for the callback: so only the first and the last do.
struct Deep {
  unsigned users = 0;
  std::size_t before = 0, now = 0;
};
std::mutex deep_lock;
std::map<int, Deep> deep_stacks;

}  // namespace

DeepStack::DeepStack(std::size_t bytes) : device_(current_device()) {
  const std::lock_guard held(deep_lock);
  Deep& deep = deep_stacks[device_];
  if (deep.users == 0) {
    check(cudaDeviceGetLimit(&deep.before, cudaLimitStackSize), "the stacks of a device");
    deep.now = deep.before;
  }
  if (deep.now < bytes) {
    check(cudaDeviceSetLimit(cudaLimitStackSize, bytes), "the stacks of a device");
    deep.now = bytes;
  }
  ++deep.users;
}
DeepStack::~DeepStack() {
  const std::lock_guard held(deep_lock);
  Deep& deep = deep_stacks[device_];
  if (--deep.users == 0 && deep.now != deep.before) cudaDeviceSetLimit(cudaLimitStackSize, deep.before);
}

void* allocate(std::size_t bytes, Stream stream) {
  void* at = nullptr;
  check(cudaMallocAsync(&at, bytes == 0 ? 1 : bytes, queue(stream)), "memory");
  return at;
}
void release(void* at, std::size_t, Stream stream) noexcept {
  // The stream's turn is that of the current device, and memory of another may not be given back in it.
  if (at && cudaFreeAsync(at, queue(stream)) != cudaSuccess) {
    cudaGetLastError();
    cudaFree(at);
  }
}
void upload(void* to, const void* from, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, queue(stream)), "copy to the device");
}
void download(void* to, const void* from, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, queue(stream)), "copy from the device");
  wait(stream);
}
void copy(void* to, const void* from, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, queue(stream)), "copy on the device");
}
void clear(void* to, std::size_t bytes, Stream stream) {
  check(cudaMemsetAsync(to, 0, bytes, queue(stream)), "clearing memory");
}
void wait(Stream stream) { check(cudaStreamSynchronize(queue(stream)), "work on the device"); }

int device_of(const void* at) {
  cudaPointerAttributes facts;
  check(cudaPointerGetAttributes(&facts, at), "what a pointer points to");
  if (facts.type != cudaMemoryTypeDevice && facts.type != cudaMemoryTypeManaged)
    throw std::invalid_argument("got a pointer to memory of the host, expected a device's");
  return facts.device;
}

// Errors here are those of a process that ends, or were told where they occurred.
void rest(int device) noexcept {
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess) return;
  if (device != before) cudaSetDevice(device);
  cudaDeviceSynchronize();
  if (device != before) cudaSetDevice(before);
}
void release_at_rest(void* at, int device) noexcept {
  if (!at) return;
  rest(device);
  cudaFree(at);
}

void* pin(std::size_t bytes) {
  void* at = nullptr;
  check(cudaHostAlloc(&at, bytes, cudaHostAllocPortable | cudaHostAllocMapped), "memory of the host for a device");
  return at;
}
void unpin(void* at) noexcept { cudaFreeHost(at); }
bool failed(Stream stream) {
  const cudaError_t status = cudaStreamQuery(queue(stream));
  return status != cudaSuccess && status != cudaErrorNotReady;
}

void check_grid(std::size_t blocks) {
  if (blocks > 0x7fffffffu) throw std::runtime_error("CUDA: more blocks than a grid holds");
}
void check_launch() { check(cudaGetLastError(), "launch of a kernel"); }
void allow_shared(const void* kernel, std::size_t bytes) {
  constexpr std::size_t unasked = 48 << 10;
  if (bytes <= unasked) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "shared memory of a kernel");
}

}  // namespace agf::cuda
