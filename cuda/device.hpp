// Memory, streams and errors of a device; the same names on the host, where memory is the host's (AGF_SHIM).
#pragma once

#if defined(AGF_BLOCK)
#include "block/device.hpp"
#else

#include <cstddef>
#include <string>

namespace agf::cuda {

// The stream of the calling thread by itself.
void* own_stream();

// Work queued in order.
struct Stream {
  void* handle = own_stream();
};

// Devices that can be used; 0 with the reason in `why`. Loads the driver, touches no device.
int device_count(std::string& why);
std::string device_name(int device);
int current_device();

// Memory that is free on the current device.
std::size_t free_bytes();

// A stream that waits for no other, and no other for it: for work that waits for the host, who may want the device
// meanwhile.
class LoneStream {
 public:
  LoneStream();
  ~LoneStream();
  LoneStream(const LoneStream&) = delete;
  LoneStream& operator=(const LoneStream&) = delete;
  Stream get() const { return stream_; }

 private:
  Stream stream_{};
};

// Makes a device the thread's own for the length of a scope.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_;
};

// Gives every thread of the current device a stack of at least so many bytes for the length of a scope, in which what
// is launched comes to its end. The device keeps one for each thread that it can hold at once.
class DeepStack {
 public:
  explicit DeepStack(std::size_t bytes);
  ~DeepStack();
  DeepStack(const DeepStack&) = delete;
  DeepStack& operator=(const DeepStack&) = delete;

 private:
  [[maybe_unused]] int device_ = 0;
};

// Failures throw std::runtime_error with the driver's words, lack of memory std::bad_alloc.
void* allocate(std::size_t bytes, Stream stream);
void release(void* at, std::size_t bytes, Stream stream) noexcept;
void upload(void* to, const void* from, std::size_t bytes, Stream stream);
// Waits until the bytes are there.
void download(void* to, const void* from, std::size_t bytes, Stream stream);
void copy(void* to, const void* from, std::size_t bytes, Stream stream);
void clear(void* to, std::size_t bytes, Stream stream);
void wait(Stream stream);

// The device that memory of one is on; std::invalid_argument for memory of none.
int device_of(const void* at);
// Waits for everything that is queued on a device.
void rest(int device) noexcept;
// Gives back what may be in use on any stream.
void release_at_rest(void* at, int device) noexcept;

// Memory of the host that devices see and write to while they work.
void* pin(std::size_t bytes);
void unpin(void* at) noexcept;
// Whether work on a stream has failed; does not wait for it.
bool failed(Stream stream);

void check_grid(std::size_t blocks);
void check_launch();
// Lets a kernel have more shared memory than every device grants unasked.
void allow_shared(const void* kernel, std::size_t bytes);

}  // namespace agf::cuda

#endif
