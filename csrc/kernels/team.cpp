#include "team.h"

#include <sched.h>

#include "interrupt.h"

namespace seq2seq_ext {

namespace {
constexpr int kSpins = 4096;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}
}  // namespace

void Barrier::wait() {
  const unsigned generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
    if (spins < kSpins)
      pause();
    else
      sched_yield();
  }
}

bool Barrier::agree(bool leads, bool said) {
  // It cannot rise before this member has arrived.
  bool& slot = said_[generation_.load(std::memory_order_relaxed) % 2];
  if (leads) slot = said;
  wait();
  return slot;
}

bool Team::sync_or_stop() const {
  if (!interrupt) return sync(), false;
  const bool leads = index == 0, stops = leads && interrupt->ask();
  return size > 1 ? barrier->agree(leads, stops) : stops;
}

}  // namespace seq2seq_ext
