/*
 * switch.c - the optimisations that can be switched off (jit.h).
 */
#include "jit.h"

#define ON(field, key, what) .field = true,
struct switches jit_on = { JIT_SWITCHES(ON) };
bool jit_count;

#define ROW(field, key, what) JIT_OPT(struct switches, , field, key, what)
const struct opt jit_opts[] = { JIT_SWITCHES(ROW) { NULL } };
