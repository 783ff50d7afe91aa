#include "PairBatch.h"

// One function, compiled for several generations of x86; the loader picks the best that the processor has. GCC knows these names
// since version 12, and only glibc's loader can pick.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

namespace qlm {

FOR_EVERY_PROCESSOR void PairBatch::evaluate(const PowerLaw& law, const PeriodicBox& box) {
    const std::size_t n = count;
    const int half_n = law.half_n;

    // Minimum image, one shift per axis as in HOOMD's BoxDim::minImage; w = (r / sigma)^2.
    const double half_x = box.length_x / 2, half_y = box.length_y / 2, half_z = box.length_z / 2;
    for (std::size_t p = 0; p < n; ++p) {
        double x = dx[p], y = dy[p], z = dz[p];
        const double image_z = (z >= half_z ? 1.0 : 0.0) - (z < -half_z ? 1.0 : 0.0);
        z -= image_z * box.length_z;
        y -= image_z * box.shift_zy;
        x -= image_z * box.shift_zx;
        const double image_y = (y >= half_y ? 1.0 : 0.0) - (y < -half_y ? 1.0 : 0.0);
        y -= image_y * box.length_y;
        x -= image_y * box.shift_yx;
        x -= ((x >= half_x ? 1.0 : 0.0) - (x < -half_x ? 1.0 : 0.0)) * box.length_x;
        dx[p] = x;
        dy[p] = y;
        dz[p] = z;
        w_[p] = (x * x + y * y + z * z) * inverse_sigma2[p];
    }

    // energy = w^-(n/2) by repeated squaring; force_divr is the factor that is squared.
    for (std::size_t p = 0; p < n; ++p) {
        inverse_[p] = 1.0 / w_[p];
        force_divr[p] = inverse_[p];
        energy[p] = (half_n & 1) ? inverse_[p] : 1.0;
    }
    for (int bits = half_n >> 1; bits != 0; bits >>= 1) {
        for (std::size_t p = 0; p < n; ++p)
            force_divr[p] *= force_divr[p];
        if (bits & 1)
            for (std::size_t p = 0; p < n; ++p)
                energy[p] *= force_divr[p];
    }

    // force_divr = polynomial, slope = its derivative, by Horner's scheme; then energy and force of the pair.
    for (std::size_t p = 0; p < n; ++p) {
        force_divr[p] = law.coefficient[law.smooth];
        slope_[p] = 0.0;
    }
    for (int l = law.smooth - 1; l >= 0; --l) {
        const double coefficient = law.coefficient[l];
        for (std::size_t p = 0; p < n; ++p) {
            slope_[p] = slope_[p] * w_[p] + force_divr[p];
            force_divr[p] = force_divr[p] * w_[p] + coefficient;
        }
    }
    const double x_cut2 = law.x_cut2;
    for (std::size_t p = 0; p < n; ++p) {
        const double scale = w_[p] < x_cut2 ? epsilon[p] : 0.0;
        const double power = energy[p];
        energy[p] = scale * (power + force_divr[p]);
        force_divr[p] = 2.0 * scale * inverse_sigma2[p] * (half_n * power * inverse_[p] - slope_[p]);
    }
}

} // namespace qlm
