// One evaluation on a large problem can take seconds: kernels look here between tiles.
#pragma once

#include <functional>

namespace agf {

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

// Work that must not be left half done: who interrupts it is heard when the run polls next.
template <typename Work>
void undisturbed(const Work& work) {
  const std::function<bool()> never = []() { return false; };
  const InterruptionScope scope(never);
  work();
}

}  // namespace agf
