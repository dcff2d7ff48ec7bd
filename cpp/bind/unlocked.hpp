// A long call into the core: without the interpreter's lock, but with an ear for Ctrl-C.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <functional>

#include "agf/interrupt.hpp"

namespace agf::bind {

// Looks for signals at most every 20 ms: taking the lock is not free, and a fifth of a second is soon enough.
class SignalWatch {
 public:
  // True with the Python error set if a signal handler raised (Ctrl-C: KeyboardInterrupt).
  bool raised() {
    const auto now = std::chrono::steady_clock::now();
    if (now - looked_ < std::chrono::milliseconds(20)) return false;
    looked_ = now;
    const pybind11::gil_scoped_acquire lock;
    return PyErr_CheckSignals() != 0;
  }

 private:
  std::chrono::steady_clock::time_point looked_ = std::chrono::steady_clock::now();
};

// Holds no lock while it lives; kernels below throw Interrupted, with the Python error set, after a Ctrl-C.
class Unlocked {
 public:
  Unlocked() : ask_([this] { return watch_.raised(); }), scope_(ask_) {}

 private:
  pybind11::gil_scoped_release release_;
  SignalWatch watch_;
  const std::function<bool()> ask_;
  const InterruptionScope scope_;
};

}  // namespace agf::bind
