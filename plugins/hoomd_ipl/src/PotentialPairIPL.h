// HOOMD-blue's pair force with the smoothed inverse power law.

#pragma once

#include "EvaluatorPairIPL.h"
#include "PairBatch.h"

#include "hoomd/md/PotentialPair.h"

#include <cstdint>
#include <memory>
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

// The force on the CPU, batch by batch. The GPU takes HOOMD's own loop.
class PotentialPairIPL : public OwnCutoff<hoomd::md::PotentialPair<EvaluatorPairIPL>> {
  public:
    using OwnCutoff::OwnCutoff;

    void setParams(unsigned int type_i, unsigned int type_j, const param_type& params) override;

  protected:
    void computeForces(uint64_t timestep) override;

  private:
    // Consecutive pairs of one particle i in the batch; the end is one past the last.
    struct Run {
        unsigned int i;
        std::size_t end;
    };
    struct Output;

    void add_batch(const PeriodicBox& box, Output& output);

    // Whether all type pairs share n, q and x_c, and then the law they share.
    bool uniform_ = false;
    PowerLaw law_ {};

    std::unique_ptr<PairBatch> batch_ = std::make_unique<PairBatch>();
    std::vector<Run> runs_;
};

} // namespace qlm
