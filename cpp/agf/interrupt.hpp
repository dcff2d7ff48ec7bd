// One evaluation on a large problem can take seconds: kernels look here between tiles.
#pragma once

#include "config.hpp"

#if !defined(AGF_BLOCK)
#include <functional>
#endif

namespace AGF_SPACE {

#if defined(AGF_BLOCK)

// Evaluations of a block's runs are short, and nothing breaks them off.
AGF_CORE inline void look_for_interruption() {}

template <typename Work>
AGF_CORE bool uninterrupted(const Work& work) {
  work();
  return true;
}

template <typename Work>
AGF_CORE void undisturbed(const Work& work) {
  work();
}

struct Listening {
  template <typename Control>
  AGF_CORE explicit Listening(Control&) {}
};

#else

struct Interrupted {};

// Set by a run on the thread that called it; null: nothing to ask.
inline thread_local const std::function<bool()>* interruption = nullptr;

inline void look_for_interruption() {
  if (interruption && (*interruption)()) throw Interrupted{};
}

class InterruptionScope {
 public:
  explicit InterruptionScope(const std::function<bool()>& ask) : before_(interruption) { interruption = &ask; }
  ~InterruptionScope() { interruption = before_; }
  InterruptionScope(const InterruptionScope&) = delete;
  InterruptionScope& operator=(const InterruptionScope&) = delete;

 private:
  const std::function<bool()>* before_;
};

// A run's kernels ask its control. Once only: what it takes to leave in order may call kernels again.
class Listening {
 public:
  template <typename Control>
  explicit Listening(Control& control)
      : ask_([&control]() { return !control.stopping && control.poll(); }), scope_(ask_) {}

 private:
  const std::function<bool()> ask_;
  const InterruptionScope scope_;
};

// Does the work; false where it was broken off.
template <typename Work>
bool uninterrupted(const Work& work) {
  try {
    work();
    return true;
  } catch (const Interrupted&) {
    return false;
  }
}

// Work that must not be left half done: who interrupts it is heard when the run polls next.
template <typename Work>
void undisturbed(const Work& work) {
  const std::function<bool()> never = []() { return false; };
  const InterruptionScope scope(never);
  work();
}

#endif

}  // namespace AGF_SPACE
