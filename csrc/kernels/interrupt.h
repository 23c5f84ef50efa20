// How a long loop is stopped from outside: by Ctrl-C, say.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

namespace seq2seq_ext {

// Whom to ask, and what to throw when a loop was stopped: told by who knows signals, as a process
// has but one. Without it nothing is stopped.
struct InterruptSource {
  bool (*asks)();
  void (*throws)();
};
InterruptSource interrupt_source();
void set_interrupt_source(const InterruptSource& source);

// Belongs to one call, on whose thread it is made: only there is `asks` called, every kPause at
// most, since it may have to wait. Once it has said yes, that stays so.
class Interrupt {
 public:
  explicit Interrupt(bool (*asks)()) : asks_(asks) {}

  // Whether to stop. Other threads hear what the call's own last heard.
  bool ask();
  bool happened() const { return happened_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPause{50};

  bool (*const asks_)();
  const std::thread::id caller_ = std::this_thread::get_id();
  Clock::time_point last_ = Clock::now();
  std::atomic<bool> happened_{false};
};

}  // namespace seq2seq_ext
