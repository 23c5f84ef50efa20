#include "parallel.h"

#include <pthread.h>

#include <atomic>

namespace seq2seq_ext {

namespace {
std::atomic<bool> in_forked_child{false};

// torch's ops, which ours call too, would wait for the lost pool for ever: one thread for them.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  in_forked_child = true;
  omp_set_num_threads(1);
});
}  // namespace

int max_threads() {
  if (in_forked_child || at::in_parallel_region()) return 1;
  return at::get_num_threads();
}

}  // namespace seq2seq_ext
