// The smoothed inverse power law for HOOMD-blue's PotentialPair, on the CPU and on the GPU.
//
//   U(r) = epsilon [ x^-n + sum_{l=0}^{q} c_l x^{2l} ],   x = r / sigma < x_c,   and 0 beyond,
//
// with the q + 1 coefficients that make U and its first q derivatives vanish at x_c (Lerner, J. Non-Cryst. Solids 522, 119570
// (2019)). n is even, so that everything is a function of r^2: neither a square root nor a power is taken per pair.

#pragma once

#include "hoomd/HOOMDMath.h"

#ifndef __HIPCC__
#include <cmath>
#include <stdexcept>
#include <string>
#endif

// HOOMD's evaluators define these macros header by header.
#ifdef __HIPCC__
#define DEVICE __device__
#define HOSTDEVICE __host__ __device__
#else
#define DEVICE
#define HOSTDEVICE
#endif

namespace qlm {

// Room for smoothing up to q = 8, as in qlm_hoomd.potentials.
constexpr int max_coefficients = 9;

#ifndef __HIPCC__
// c_l = (-1)^(l+1) / [(2q-2l)!! (2l)!!] * [n (n+2) ... (n+2q)] / (n+2l) * x_c^-(n+2l)
inline double smoothing_coefficient(int n, int q, double x_c, int l) {
    double value = (l % 2 == 0) ? -1.0 : 1.0;
    for (int k = 0; k <= q; ++k)
        if (k != l)
            value *= n + 2 * k;
    for (int k = 1; k <= q - l; ++k)
        value /= 2 * k;
    for (int k = 1; k <= l; ++k)
        value /= 2 * k;
    return value / std::pow(x_c, n + 2 * l);
}
#endif

class EvaluatorPairIPL {
  public:
    // What one type pair needs, epsilon multiplied in.
    struct param_type {
        hoomd::Scalar coefficient[max_coefficients]; // epsilon c_l
        hoomd::Scalar epsilon;
        hoomd::Scalar sigma;
        hoomd::Scalar x_cut;
        hoomd::Scalar inverse_sigma2; // sigma^-2
        int half_n;                   // n / 2
        int smooth;                   // q

        // Part of HOOMD's contract; only parameters with memory of their own have something to do here.
        DEVICE void load_shared(char*&, unsigned int&) {}
        HOSTDEVICE void allocate_shared(char*&, unsigned int&) const {}
#ifdef ENABLE_HIP
        void set_memory_hint() const {}
#endif

#ifndef __HIPCC__
        param_type() : coefficient {}, epsilon(0), sigma(0), x_cut(0), inverse_sigma2(0), half_n(1), smooth(0) {}

        explicit param_type(const pybind11::dict& params, bool /*managed*/ = false)
            : coefficient {}, epsilon(params["epsilon"].cast<hoomd::Scalar>()), sigma(params["sigma"].cast<hoomd::Scalar>()),
              x_cut(params["x_cut"].cast<hoomd::Scalar>()), inverse_sigma2(1 / (sigma * sigma)),
              half_n(params["n"].cast<int>() / 2), smooth(params["smooth"].cast<int>()) {
            // The Python class has checked what the user typed; this keeps memory safe whoever calls.
            if (half_n < 1 || smooth < 0 || smooth >= max_coefficients)
                throw std::invalid_argument("expected n >= 2 and 0 <= smooth <= 8");
            for (int l = 0; l <= smooth; ++l)
                coefficient[l] = epsilon * hoomd::Scalar(smoothing_coefficient(2 * half_n, smooth, x_cut, l));
        }

        pybind11::dict asDict() const {
            pybind11::dict params;
            params["epsilon"] = epsilon;
            params["sigma"] = sigma;
            params["n"] = 2 * half_n;
            params["smooth"] = smooth;
            params["x_cut"] = x_cut;
            return params;
        }

        hoomd::Scalar r_cut() const { return x_cut * sigma; }
#endif
    } __attribute__((aligned(16)));

    DEVICE EvaluatorPairIPL(hoomd::Scalar rsq, hoomd::Scalar rcutsq, const param_type& params)
        : rsq_(rsq), rcutsq_(rcutsq), params_(params) {}

    DEVICE static bool needsCharge() { return false; }
    DEVICE void setCharge(hoomd::Scalar, hoomd::Scalar) {}

    // Force over distance and energy of the pair; false beyond the cut-off. U vanishes at the cut-off: nothing to shift.
    DEVICE bool evalForceAndEnergy(hoomd::Scalar& force_divr, hoomd::Scalar& pair_eng, bool /*energy_shift*/) const {
        if (rsq_ >= rcutsq_)
            return false;
        const hoomd::Scalar w = rsq_ * params_.inverse_sigma2;
        const hoomd::Scalar inverse = 1 / w;

        // w^-(n/2) by repeated squaring.
        hoomd::Scalar power = 1;
        hoomd::Scalar factor = inverse;
        for (int bits = params_.half_n;; factor *= factor) {
            if (bits & 1)
                power *= factor;
            bits >>= 1;
            if (bits == 0)
                break;
        }
        power *= params_.epsilon;

        // Horner's scheme for the polynomial in w and its slope.
        hoomd::Scalar polynomial = params_.coefficient[params_.smooth];
        hoomd::Scalar slope = 0;
        for (int l = params_.smooth - 1; l >= 0; --l) {
            slope = slope * w + polynomial;
            polynomial = polynomial * w + params_.coefficient[l];
        }

        pair_eng = power + polynomial;
        force_divr = 2 * params_.inverse_sigma2 * (hoomd::Scalar(params_.half_n) * power * inverse - slope);
        return true;
    }

    // Nothing lies beyond the cut-off: no long-range correction.
    DEVICE hoomd::Scalar evalPressureLRCIntegral() const { return 0; }
    DEVICE hoomd::Scalar evalEnergyLRCIntegral() const { return 0; }

#ifndef __HIPCC__
    static std::string getName() { return "ipl"; }
    std::string getShapeSpec() const { throw std::runtime_error("The inverse power law has no shape."); }
#endif

  private:
    hoomd::Scalar rsq_;
    hoomd::Scalar rcutsq_;
    const param_type& params_;
};

} // namespace qlm
