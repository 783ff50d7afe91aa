// The pairs of many particles side by side, so that the arithmetic of the force runs in the vector units of the processor.
//
// HOOMD-blue's own pair loop takes one pair at a time and branches at the box faces and at the cut-off, which costs more than the
// force itself. Here each step is a loop without branches.

#pragma once

#include <cstddef>

namespace qlm {

// The law that all pairs of a batch follow, for epsilon = 1.
struct PowerLaw {
    int half_n;             // n / 2
    int smooth;             // q
    double x_cut2;          // x_c^2
    double coefficient[16]; // c_0 ... c_q
};

// A triclinic box as HOOMD describes it; shift_yx is the shift along x that goes with one image along y, and so on.
struct PeriodicBox {
    double length_x, length_y, length_z;
    double shift_yx, shift_zx, shift_zy;
};

struct PairBatch {
    static constexpr std::size_t capacity = 1024;

    // Filled pair by pair: r_i - r_j, sigma^-2, epsilon, index of j.
    std::size_t count = 0;
    alignas(64) double dx[capacity];
    alignas(64) double dy[capacity];
    alignas(64) double dz[capacity];
    alignas(64) double inverse_sigma2[capacity];
    alignas(64) double epsilon[capacity];
    unsigned int j[capacity];

    // Computed: energy and force over distance, both zero beyond the cut-off.
    alignas(64) double energy[capacity];
    alignas(64) double force_divr[capacity];

    // Takes dx, dy, dz to the nearest image, then computes.
    void evaluate(const PowerLaw& law, const PeriodicBox& box);

  private:
    alignas(64) double w_[capacity];
    alignas(64) double inverse_[capacity];
    alignas(64) double slope_[capacity];
};

} // namespace qlm
