#include "options.h"

#include <algorithm>

namespace seq2seq_ext {

int64_t SearchOptions::largest_token() const {
  int64_t largest = rules_see_bos ? bos_id : 0;
  const auto see = [&](const std::vector<int64_t>& tokens) {
    for (const int64_t token : tokens) largest = std::max(largest, token);
  };
  see(eos_ids);
  see(prefix);
  for (const auto& sequence : banned) see(sequence);
  if (shortlist) see(*shortlist);
  if (trie) largest = std::max(largest, trie->largest_token());
  if (phrases) largest = std::max(largest, phrases->largest_token());
  return largest;
}

}  // namespace seq2seq_ext
