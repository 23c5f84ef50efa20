// The whole decode: steps of the decoder and of the search in turn, by one team. Rows are those
// with a live hypothesis and no others: what a sentence no longer needs costs nothing. A state is
// never moved: the next step reads it where its parent left it. Logits are written out only for
// steps in which some row has rules.
#pragma once

#include <cstdint>
#include <exception>
#include <vector>

#include "beam_search.h"
#include "decoder.h"
#include "interrupt.h"

namespace seq2seq_ext {

struct GenerationInputs {
  DecoderSources sources;  // as many as the search has sentences
  const float* state;      // [parts, B, H] the decoder's initial state
  Interrupt* interrupt;    // asked before every step
};

// The buffers of a decode, kept from one to the next.
class Generation {
 public:
  // Threads that are worth their while for a search of so many rows.
  static int team_size(const DecoderModel& model, int64_t rows, int threads);

  // Before the team's run.
  void prepare(const DecoderModel& model, const GenerationInputs& inputs, BeamSearch* search,
               int team_size);

  // Every member calls.
  void run(const Team& team);

  // Afterwards. False if the loop was interrupted; throws what a step threw.
  bool finish() const;

  // The attention's weights under which each token of a hypothesis was predicted: [length, S].
  void follow(const Hypothesis& hypothesis, float* weights) const;

 private:
  bool has_failed() const;
  bool select_rows();
  void swap_states();
  void choose_under_rules(const Team& team);
  void advance(const Share& sentences);
  void take_best(int64_t place);
  void take_weights(int64_t place);

  const DecoderModel* model_ = nullptr;
  GenerationInputs inputs_{};
  BeamSearch* search_ = nullptr;
  DecoderWorkspace workspace_;
  DecoderStep step_{};
  bool goes_on_ = false, was_interrupted_ = false;
  std::vector<std::exception_ptr> errors_;  // of each member

  std::vector<int64_t> rows_;   // of the search, one for each row of the step
  std::vector<int64_t> place_;  // of each row of the search among them
  std::vector<SourceRows> groups_;
  std::vector<int64_t> tokens_, parents_;                // of the step's rows
  std::vector<int64_t> search_tokens_, search_parents_;  // of the search's rows
  Buffer<float> states_[2];                              // what a step reads, what it writes
  std::vector<float> weights_, log_probs_, logits_;
  std::vector<int64_t> best_;
  // Of the search's rows; those that are not live hold what they held.
  std::vector<double> candidate_log_probs_, candidate_perturbed_, attention_;
  std::vector<int64_t> candidate_tokens_;
  std::vector<RuleWorkspace<float>> rules_;  // of each member
  std::vector<float> all_weights_;           // [steps, rows, S] of the search's rows
};

}  // namespace seq2seq_ext
