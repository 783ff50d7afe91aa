// The GPU kernel: HOOMD-blue's pair loop with the smoothed inverse power law. Compiled where HOOMD has a GPU build.

#include "EvaluatorPairIPL.h"

#include "hoomd/md/PotentialPairGPU.cuh"

namespace hoomd {
namespace md {
namespace kernel {

template __attribute__((visibility("default"))) hipError_t
gpu_compute_pair_forces<qlm::EvaluatorPairIPL>(const pair_args_t& pair_args, const qlm::EvaluatorPairIPL::param_type* d_params);

} // namespace kernel
} // namespace md
} // namespace hoomd
