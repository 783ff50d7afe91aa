#include "PotentialPairIPL.h"

#include <algorithm>
#include <cstring>

namespace qlm {

using hoomd::access_location;
using hoomd::access_mode;
using hoomd::ArrayHandle;
using hoomd::Scalar;
using hoomd::Scalar4;

// Where forces and energies go, and virials if they are wanted.
struct PotentialPairIPL::Output {
    Scalar4* force;
    Scalar* virial; // six arrays of virial_pitch, xx xy xz yy yz zz; null if not wanted
    std::size_t virial_pitch;
    unsigned int n_local; // particles beyond are other ranks' and get no force here
};

void PotentialPairIPL::setParams(unsigned int type_i, unsigned int type_j, const param_type& params) {
    OwnCutoff::setParams(type_i, type_j, params);
    uniform_ = std::all_of(m_params.begin(), m_params.end(), [&params](const param_type& other) {
        return other.half_n == params.half_n && other.smooth == params.smooth && other.x_cut == params.x_cut;
    });
    law_ = PowerLaw {params.half_n, params.smooth, double(params.x_cut) * double(params.x_cut), {}};
    for (int l = 0; l <= params.smooth; ++l)
        law_.coefficient[l] = smoothing_coefficient(2 * params.half_n, params.smooth, params.x_cut, l);
}

void PotentialPairIPL::computeForces(uint64_t timestep) {
    m_nlist->compute(timestep);
    if (!uniform_ || m_nlist->getStorageMode() != hoomd::md::NeighborList::half) {
        OwnCutoff::computeForces(timestep);
        return;
    }

    ArrayHandle<unsigned int> h_n_neigh(m_nlist->getNNeighArray(), access_location::host, access_mode::read);
    ArrayHandle<unsigned int> h_nlist(m_nlist->getNListArray(), access_location::host, access_mode::read);
    ArrayHandle<size_t> h_head_list(m_nlist->getHeadList(), access_location::host, access_mode::read);
    ArrayHandle<Scalar4> h_pos(m_pdata->getPositions(), access_location::host, access_mode::read);
    ArrayHandle<Scalar4> h_force(m_force, access_location::host, access_mode::overwrite);
    ArrayHandle<Scalar> h_virial(m_virial, access_location::host, access_mode::overwrite);
    std::memset(static_cast<void*>(h_force.data), 0, sizeof(Scalar4) * m_force.getNumElements());
    std::memset(static_cast<void*>(h_virial.data), 0, sizeof(Scalar) * m_virial.getNumElements());

    const hoomd::BoxDim global_box = m_pdata->getGlobalBox();
    const hoomd::Scalar3 length = global_box.getL();
    const PeriodicBox box {length.x,
                           length.y,
                           length.z,
                           global_box.getTiltFactorXY() * length.y,
                           global_box.getTiltFactorXZ() * length.z,
                           global_box.getTiltFactorYZ() * length.z};
    const bool wants_virial = m_pdata->getFlags()[hoomd::pdata_flag::pressure_tensor];
    Output output {h_force.data, wants_virial ? h_virial.data : nullptr, m_virial_pitch, m_pdata->getN()};

    PairBatch& batch = *batch_;
    for (unsigned int i = 0; i < output.n_local; ++i) {
        const Scalar4 r_i = h_pos.data[i];
        // Parameters are stored for (a, b) and (b, a): those of one type with all others lie side by side.
        const param_type* params_i = &m_params[m_typpair_idx(0, hoomd::__scalar_as_int(r_i.w))];
        const unsigned int* next = h_nlist.data + h_head_list.data[i];
        const unsigned int* const end = next + h_n_neigh.data[i];
        while (next != end) {
            const std::size_t stop = std::min(PairBatch::capacity, batch.count + std::size_t(end - next));
            for (std::size_t p = batch.count; p < stop; ++p, ++next) {
                const Scalar4 r_j = h_pos.data[*next];
                const param_type& params = params_i[hoomd::__scalar_as_int(r_j.w)];
                batch.dx[p] = r_i.x - r_j.x;
                batch.dy[p] = r_i.y - r_j.y;
                batch.dz[p] = r_i.z - r_j.z;
                batch.inverse_sigma2[p] = params.inverse_sigma2;
                batch.epsilon[p] = params.epsilon;
                batch.j[p] = *next;
            }
            batch.count = stop;
            runs_.push_back({i, stop});
            if (stop == PairBatch::capacity)
                add_batch(box, output);
        }
    }
    add_batch(box, output);
}

// Computes the pairs in the batch, adds them up per particle, and empties the batch.
void PotentialPairIPL::add_batch(const PeriodicBox& box, Output& output) {
    PairBatch& batch = *batch_;
    batch.evaluate(law_, box);
    std::size_t p = 0;
    for (const Run& run : runs_) {
        double force_x = 0, force_y = 0, force_z = 0, energy = 0;
        for (std::size_t q = p; q < run.end; ++q) {
            const double x = batch.force_divr[q] * batch.dx[q];
            const double y = batch.force_divr[q] * batch.dy[q];
            const double z = batch.force_divr[q] * batch.dz[q];
            const double half_energy = 0.5 * batch.energy[q];
            force_x += x;
            force_y += y;
            force_z += z;
            energy += half_energy;
            if (batch.j[q] < output.n_local) {
                Scalar4& force_j = output.force[batch.j[q]];
                force_j.x -= x;
                force_j.y -= y;
                force_j.z -= z;
                force_j.w += half_energy;
            }
        }
        Scalar4& force_i = output.force[run.i];
        force_i.x += force_x;
        force_i.y += force_y;
        force_i.z += force_z;
        force_i.w += energy;

        // A loop of its own, so that forces are the same to the last bit whether or not virials are wanted.
        if (output.virial != nullptr)
            for (std::size_t q = p; q < run.end; ++q) {
                const double half = 0.5 * batch.force_divr[q];
                const double x = batch.dx[q], y = batch.dy[q], z = batch.dz[q];
                const double virial[6] = {half * x * x, half * x * y, half * x * z, half * y * y, half * y * z, half * z * z};
                for (std::size_t component = 0; component < 6; ++component) {
                    Scalar* array = output.virial + component * output.virial_pitch;
                    array[run.i] += virial[component];
                    if (batch.j[q] < output.n_local)
                        array[batch.j[q]] += virial[component];
                }
            }
        p = run.end;
    }
    batch.count = 0;
    runs_.clear();
}

} // namespace qlm
