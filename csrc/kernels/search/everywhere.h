// What runs on a GPU too.
#pragma once

#ifdef __CUDACC__
#define SEQ2SEQ_EXT_EVERYWHERE __host__ __device__
#else
#define SEQ2SEQ_EXT_EVERYWHERE
#endif
