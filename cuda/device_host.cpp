// The device that the shim stands for: the host.
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "device.hpp"

namespace agf::cuda {

void* own_stream() { return nullptr; }

int device_count(std::string&) { return 1; }
std::string device_name(int) { return "the host, in place of a GPU"; }
int current_device() { return 0; }

std::size_t free_bytes() { return std::size_t{1} << 32; }

LoneStream::LoneStream() = default;
LoneStream::~LoneStream() = default;

OnDevice::OnDevice(int) : before_(0) {}
OnDevice::~OnDevice() = default;

DeepStack::DeepStack(std::size_t) {}
DeepStack::~DeepStack() = default;

void* allocate(std::size_t bytes, Stream) {
  constexpr std::size_t alignment = 256;  // a device's
  void* at = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (!at) throw std::bad_alloc();
  std::memset(at, 0xff, bytes);  // nothing is cleared on a device either: NaNs
  return at;
}
void release(void* at, std::size_t, Stream) noexcept { std::free(at); }
void upload(void* to, const void* from, std::size_t bytes, Stream) {
  if (bytes) std::memcpy(to, from, bytes);  // of nothing, `from` may be null
}
void download(void* to, const void* from, std::size_t bytes, Stream) { std::memcpy(to, from, bytes); }
void copy(void* to, const void* from, std::size_t bytes, Stream) { std::memcpy(to, from, bytes); }
void clear(void* to, std::size_t bytes, Stream) { std::memset(to, 0, bytes); }
void wait(Stream) {}

int device_of(const void*) { return 0; }
void rest(int) noexcept {}
void release_at_rest(void* at, int) noexcept { std::free(at); }

void* pin(std::size_t bytes) { return allocate(bytes, Stream{}); }
void unpin(void* at) noexcept { std::free(at); }
bool failed(Stream) { return false; }

void check_grid(std::size_t blocks) {
  if (blocks > 0x7fffffffu) throw std::runtime_error("more blocks than a grid holds");
}
void check_launch() {}
void allow_shared(const void*, std::size_t) {}

}  // namespace agf::cuda
