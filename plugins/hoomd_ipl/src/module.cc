// The Python module `_ipl`.

#include "PotentialPairIPL.h"

#ifdef ENABLE_HIP
#include "hoomd/md/PotentialPairGPU.h"
#endif

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <vector>

namespace qlm {

template<class Class, class Base> void export_force(pybind11::module_& module, const char* name) {
    pybind11::class_<Class, Base, std::shared_ptr<Class>>(module, name)
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
    using Force = hoomd::md::PotentialPair<qlm::EvaluatorPairIPL>;
    // The bases bring HOOMD's methods with them.
    hoomd::md::detail::export_PotentialPair<qlm::EvaluatorPairIPL>(module, "BasePairIPL");
    qlm::export_force<qlm::PotentialPairIPL, Force>(module, "PotentialPairIPL");
#ifdef ENABLE_HIP
    using ForceGPU = hoomd::md::PotentialPairGPU<qlm::EvaluatorPairIPL>;
    hoomd::md::detail::export_PotentialPairGPU<qlm::EvaluatorPairIPL>(module, "BasePairIPLGPU");
    qlm::export_force<qlm::OwnCutoff<ForceGPU>, ForceGPU>(module, "PotentialPairIPLGPU");
#endif
    module.def("coefficients", &qlm::coefficients, pybind11::arg("n"), pybind11::arg("q"), pybind11::arg("x_c"));
}
