#pragma once
namespace seq2seq_ext {
template <typename T>
struct BeamSearchKernels {};
}  // namespace seq2seq_ext
