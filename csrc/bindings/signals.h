// Python's signals, for loops that run without the GIL.
#pragma once

namespace seq2seq_ext {

// Lets the handlers run of signals that came; whether one raised. On threads other than Python's
// main one, where no handler runs, always false.
bool signal_raised();

// Throws what it raised.
[[noreturn]] void throw_signal();

}  // namespace seq2seq_ext
