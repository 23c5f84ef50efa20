#include "beam_search.h"
