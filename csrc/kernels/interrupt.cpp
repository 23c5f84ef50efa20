#include "interrupt.h"

namespace seq2seq_ext {

namespace {

InterruptSource process_source{};

}  // namespace

InterruptSource interrupt_source() { return process_source; }

void set_interrupt_source(const InterruptSource& source) { process_source = source; }

bool Interrupt::ask() {
  if (happened() || std::this_thread::get_id() != caller_) return happened();
  const Clock::time_point now = Clock::now();
  if (now - last_ < kPause) return false;
  last_ = now;
  happened_.store(asks_(), std::memory_order_relaxed);
  return happened();
}

}  // namespace seq2seq_ext
