#include "isa.h"

#include <cstdlib>

#if defined(SEQ2SEQ_EXT_TILE_UNIT) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace seq2seq_ext {

// Each ISA's tables, defined by cpu/kernels.cpp compiled with that ISA's flags.
namespace baseline {
void make_kernels(Kernels<float>&);
void make_kernels(Kernels<double>&);
}  // namespace baseline
#ifdef SEQ2SEQ_EXT_X86
namespace avx2 {
void make_kernels(Kernels<float>&);
void make_kernels(Kernels<double>&);
}  // namespace avx2
namespace avx512 {
void make_kernels(Kernels<float>&);
void make_kernels(Kernels<double>&);
}  // namespace avx512
// Those that add instructions for weight types hold the kernels of these only.
namespace avx512_vnni {
void replace_kernels(Kernels<float>&);
}
namespace avx512_bf16 {
void replace_kernels(Kernels<float>&);
}
#endif
#ifdef SEQ2SEQ_EXT_TILE_UNIT
namespace avx512_amx {
void replace_kernels(Kernels<float>&);
}
#endif

namespace {

constexpr Isa kIsas[] = {Isa::kBaseline,   Isa::kAvx2,       Isa::kAvx512,
                         Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAvx512Amx};

// Intel's vdpbf16ps has half the rate of multiply-adds, which widened weights take: these need
// about six tenths of its time from five rows on, a sixth more for one.
bool is_worth_it(Isa isa) {
#ifdef SEQ2SEQ_EXT_X86
  if (isa == Isa::kAvx512Bf16) return !__builtin_cpu_is("intel");
#endif
  return true;
}

// The CPU has the tile unit for both types, this build its kernels, and Linux lets this process
// have its registers, for which it has to be asked.
[[maybe_unused]] bool tile_unit_available() {
#if defined(SEQ2SEQ_EXT_TILE_UNIT) && defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBfloat16 = 1u << 22, kTiles = 1u << 24, kInt8 = 1u << 25;
  if ((~d & (kBfloat16 | kTiles | kInt8)) != 0) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

template <typename T>
void make_table(Isa isa, Kernels<T>& table) {
#ifdef SEQ2SEQ_EXT_X86
  if (isa >= Isa::kAvx512) return avx512::make_kernels(table);
  if (isa == Isa::kAvx2) return avx2::make_kernels(table);
#endif
  baseline::make_kernels(table);
}

// The instructions that weight types have for themselves.
void add_instructions(Isa isa, Kernels<float>& table) {
#ifdef SEQ2SEQ_EXT_X86
  if (isa >= Isa::kAvx512Vnni) avx512_vnni::replace_kernels(table);
  if (isa >= Isa::kAvx512Bf16) avx512_bf16::replace_kernels(table);
#endif
#ifdef SEQ2SEQ_EXT_TILE_UNIT
  if (isa >= Isa::kAvx512Amx) avx512_amx::replace_kernels(table);
#endif
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
    make_table(chosen, f32);
    make_table(chosen, f64);
    add_instructions(chosen, f32);
  }

  void use_best() {
    Isa best = Isa::kBaseline;
    for (Isa isa : kIsas)
      if (isa_available(isa) && is_worth_it(isa)) best = isa;
    use(best);
  }

  std::string use(const std::string& name) {
    std::string names;
    for (Isa isa : kIsas) {
      names += std::string(names.empty() ? "" : ", ") + isa_name(isa);
      if (name != isa_name(isa)) continue;
      if (!isa_available(isa)) return "isa: this CPU or build does not support '" + name + "'";
      use(isa);
      return {};
    }
    return "isa: expected one of " + names + ", got '" + name + "'";
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
    case Isa::kAvx512Amx:
      return "avx512_amx";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
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
  switch (isa) {
    case Isa::kAvx512Amx:
      return isa_available(Isa::kAvx512Bf16) && tile_unit_available();
    case Isa::kAvx512Bf16:
      return __builtin_cpu_supports("avx512bf16") && isa_available(Isa::kAvx512Vnni);
    case Isa::kAvx512Vnni:
      return __builtin_cpu_supports("avx512vnni") && isa_available(Isa::kAvx512);
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("fma");
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    default:
      break;
  }
#endif
  return isa == Isa::kBaseline;
}

std::string set_isa(const std::string& name) { return active().use(name); }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (Isa isa : kIsas)
    if (isa_available(isa)) names.emplace_back(isa_name(isa));
  return names;
}

const char* weight_path(WeightType type) {
  const Isa isa = active_isa();
  switch (type) {
    case WeightType::kBfloat16:
      if (isa >= Isa::kAvx512Amx) return "tdpbf16ps";
      return isa >= Isa::kAvx512Bf16 ? "vdpbf16ps" : "widened to float32";
    case WeightType::kInt8:
      if (isa >= Isa::kAvx512Amx) return "tdpbusd, few rows vpdpbusd";
      return isa >= Isa::kAvx512Vnni ? "vpdpbusd" : "widened to int16";
    default:
      return "as they are";
  }
}

const std::string& isa_load_error() { return active().load_error; }

}  // namespace seq2seq_ext
