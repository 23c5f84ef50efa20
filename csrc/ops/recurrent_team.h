// Threads for the directions of recurrent layers.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "interrupt.h"
#include "parallel.h"
#include "recurrent_inputs.h"

namespace seq2seq_ext {

// Threads for one direction: each needs enough work a step to pay for the barrier.
inline int direction_threads(const Sizes& s, int64_t total_rows, int64_t steps, int available) {
  constexpr int64_t kFlopsPerBarrier = 200'000;
  const int64_t flops =
      2 * s.gates * s.hidden * s.output * total_rows / std::max<int64_t>(steps, 1);
  return std::clamp<int64_t>(flops / kFlopsPerBarrier, 1, available);
}

// Runs run(layer, direction, team) for every direction of one layer after another. The directions
// of a layer go side by side without a barrier between them if there are threads for both, else
// one after the other. prepare(direction, threads) is called before. Where the caller stops it,
// what remains is left after a step each, and then this throws.
template <class Prepare, class Run>
void run_directions(const Sizes& s, int64_t layers, const Ragged& ragged, const Prepare& prepare,
                    const Run& run) {
  constexpr int64_t kFlopsPerFork = 1'000'000;
  const int64_t flops =
      2 * layers * s.directions * s.gates * s.hidden * (s.output + s.input) * ragged.total();
  const int available = flops < kFlopsPerFork ? 1 : max_threads();
  const int groups = available > 1 ? s.directions : 1;
  const int wanted =
      groups * direction_threads(s, ragged.total(), ragged.view().steps, available / groups);
  OpInterrupt interrupt(flops);
  std::vector<std::unique_ptr<Barrier>> barriers;
  std::unique_ptr<Barrier> whole;
  std::vector<int> begin;
  run_team(
      wanted,
      [&](int threads) {
        const int real_groups = std::min(groups, threads);
        for (int g = 0; g <= real_groups; ++g) begin.push_back(threads * g / real_groups);
        for (int g = 0; g < real_groups; ++g) {
          barriers.push_back(std::make_unique<Barrier>(begin[g + 1] - begin[g]));
        }
        if (real_groups > 1) whole = std::make_unique<Barrier>(threads);
        for (int64_t d = 0; d < s.directions; ++d) {
          const int g = d % real_groups;
          prepare(d, begin[g + 1] - begin[g]);
        }
      },
      [&](int thread) {
        const int real_groups = barriers.size();
        int g = 0;
        while (thread >= begin[g + 1]) ++g;
        const Team team{thread - begin[g], begin[g + 1] - begin[g], barriers[g].get(),
                        interrupt.get()};
        for (int64_t layer = 0; layer < layers; ++layer) {
          // A direction's own team has met after its last step.
          if (layer > 0 && whole) whole->wait();
          for (int64_t d = g; d < s.directions; d += real_groups) run(layer, d, team);
        }
      });
  interrupt.check();
}

}  // namespace seq2seq_ext
