// The Python module `_ipl`: HOOMD-blue's pair force with the smoothed inverse power law.

#include "EvaluatorPairIPL.h"

#include "hoomd/md/PotentialPair.h"
#ifdef ENABLE_HIP
#include "hoomd/md/PotentialPairGPU.h"
#endif

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <vector>

namespace qlm {

// A pair force whose cut-off distance follows from its parameters, so that the two can never disagree.
template<class Force> class OwnCutoff : public Force {
  public:
    using Force::Force;

    void setParams(unsigned int type_i, unsigned int type_j, const typename Force::param_type& params) override {
        Force::setParams(type_i, type_j, params);
        this->setRcut(type_i, type_j, params.r_cut());
    }
};

template<class Force> void export_own_cutoff(pybind11::module_& module, const char* name) {
    pybind11::class_<OwnCutoff<Force>, Force, std::shared_ptr<OwnCutoff<Force>>>(module, name)
        .def(pybind11::init<std::shared_ptr<hoomd::SystemDefinition>, std::shared_ptr<hoomd::md::NeighborList>>());
}

std::vector<double> coefficients(int n, int q, double x_c) {
    std::vector<double> values;
    for (int l = 0; l <= q; ++l)
        values.push_back(smoothing_coefficient(n, q, x_c, l));
    return values;
}

} // namespace qlm

PYBIND11_MODULE(_ipl, module) {
    using hoomd::md::PotentialPair;
    hoomd::md::detail::export_PotentialPair<qlm::EvaluatorPairIPL>(module, "PotentialPairAnyCutoffIPL");
    qlm::export_own_cutoff<PotentialPair<qlm::EvaluatorPairIPL>>(module, "PotentialPairIPL");
#ifdef ENABLE_HIP
    using hoomd::md::PotentialPairGPU;
    hoomd::md::detail::export_PotentialPairGPU<qlm::EvaluatorPairIPL>(module, "PotentialPairAnyCutoffIPLGPU");
    qlm::export_own_cutoff<PotentialPairGPU<qlm::EvaluatorPairIPL>>(module, "PotentialPairIPLGPU");
#endif
    module.def("coefficients", &qlm::coefficients, pybind11::arg("n"), pybind11::arg("q"), pybind11::arg("x_c"));
}
