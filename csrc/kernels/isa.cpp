#include "isa.h"

#include <cstdlib>

namespace seq2seq_ext {

// Each ISA's table, defined by cpu/kernels.cpp compiled with that ISA's flags.
#define DECLARE_TABLE(isa)                        \
  namespace isa {                                 \
  template <typename T>                           \
  Kernels<T> make_kernels();                      \
  extern template Kernels<float> make_kernels();  \
  extern template Kernels<double> make_kernels(); \
  }
DECLARE_TABLE(baseline)
#ifdef SEQ2SEQ_EXT_X86
DECLARE_TABLE(avx2)
DECLARE_TABLE(avx512)
#endif
#undef DECLARE_TABLE

namespace {

template <typename T>
Kernels<T> make_table(Isa isa) {
#ifdef SEQ2SEQ_EXT_X86
  if (isa == Isa::kAvx512) return avx512::make_kernels<T>();
  if (isa == Isa::kAvx2) return avx2::make_kernels<T>();
#endif
  return baseline::make_kernels<T>();
}

struct Active {
  Isa isa = Isa::kBaseline;
  Kernels<float> f32;
  Kernels<double> f64;
  std::string load_error;

  Active() {
    const char* forced = std::getenv("SEQ2SEQ_EXT_ISA");
    if (forced && *forced) load_error = use(forced);
    if (!forced || !*forced || !load_error.empty()) use_best();
  }

  void use(Isa chosen) {
    isa = chosen;
    f32 = make_table<float>(chosen);
    f64 = make_table<double>(chosen);
  }

  void use_best() {
    for (Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kBaseline})
      if (isa_available(isa)) return use(isa);
  }

  std::string use(const std::string& name) {
    for (Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
      if (name != isa_name(isa)) continue;
      if (!isa_available(isa)) return "isa: this CPU or build does not support '" + name + "'";
      use(isa);
      return {};
    }
    return "isa: expected baseline, avx2 or avx512, got '" + name + "'";
  }
};

Active& active() {
  static Active instance;
  return instance;
}

}  // namespace

template <>
const Kernels<float>& kernels() {
  return active().f32;
}

template <>
const Kernels<double>& kernels() {
  return active().f64;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

Isa active_isa() { return active().isa; }

bool isa_available(Isa isa) {
#ifdef SEQ2SEQ_EXT_X86
  if (isa == Isa::kAvx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
  if (isa == Isa::kAvx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return isa == Isa::kBaseline;
}

std::string set_isa(const std::string& name) { return active().use(name); }

const std::string& isa_load_error() { return active().load_error; }

}  // namespace seq2seq_ext
