/* cpu: feature detection.
 *
 * Detection runs in a constructor, before main and before any thread, so readers need no lock and
 * the answer never changes. A feature counts only when the operating system saves its registers
 * too: __builtin_cpu_supports checks XGETBV for us.
 *
 * KITH_CPU is read here and nowhere else. An unknown value is ignored rather than fatal: a process
 * must not fail to start over a tuning variable, and the status page shows the tier in use.
 */
#include "vec/cpu.h"
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static cpu_features features; /* written once by the constructor */

static void detect(cpu_features *f) {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C); /* clang 14 cannot ask by name */
    __builtin_cpu_init();
    f->avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    f->avx512 = f->avx2 && __builtin_cpu_supports("avx512f") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512dq");
    f->avx512_vnni = f->avx512 && __builtin_cpu_supports("avx512vnni");
    f->avx512_bf16 = f->avx512 && __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
    f->neon = true;
#if defined(__linux__)
    f->neon_dot = getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#elif defined(__ARM_FEATURE_DOTPROD)
    f->neon_dot = true;
#endif
#elif defined(__wasm_simd128__)
    f->wasm = true;
#else
    (void)f;
#endif
}

__attribute__((constructor(101))) static void cpu_start(void) {
    cpu_features f = {0};
    detect(&f);
    str cap = str_of(getenv("KITH_CPU"));
    bool scalar = str_eq(cap, STR("scalar")), avx2 = str_eq(cap, STR("avx2"));
    if (scalar) f.avx2 = false;
    if (scalar || avx2) f.avx512 = f.avx512_vnni = f.avx512_bf16 = false;
    if (scalar || str_eq(cap, STR("neon"))) f.neon_dot = false;
    if (scalar) f.neon = f.wasm = false;
    features = f;
}

const cpu_features *cpu_features_get(void) {
    return &features;
}

const char *cpu_tier_name(void) {
    const cpu_features *f = &features;
    if (f->avx512) return "avx512";
    if (f->avx2) return "avx2";
    if (f->neon) return f->neon_dot ? "neon-dot" : "neon";
    return f->wasm ? "wasm" : "scalar";
}
