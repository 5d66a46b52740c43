#pragma once

#include "library.h"

/* Whether a pointer that may be anything is a sampler. */
bool is_sampler(const void *pointer);
