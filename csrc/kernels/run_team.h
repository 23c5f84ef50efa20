// Threads for a team. They are OpenMP's, the pool torch itself uses, so the two never compete.
#pragma once

#include <omp.h>

#include "team.h"

namespace seq2seq_ext {

// Runs body(member) on threads that stay together. prepare(n) is called once before,
// with the number of threads that really came (at most size).
template <class Prepare, class Body>
void run_team(int size, const Prepare& prepare, const Body& body) {
  if (size <= 1) {
    prepare(1);
    body(0);
    return;
  }
#pragma omp parallel num_threads(size)
  {
#pragma omp single
    prepare(omp_get_num_threads());
    body(omp_get_thread_num());
  }
}

}  // namespace seq2seq_ext
