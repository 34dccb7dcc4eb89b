// What every family of checkpoint names shares: tensors asked for by name and shape, each used, none left over.
#pragma once
#include <set>
#include <string>

#include "models/checkpoint_plan.h"

namespace samba {

class PlanBuilder {
  public:
    explicit PlanBuilder(const CheckpointReader& reader) : reader_(reader) {}

    CheckpointPlan plan;

    [[noreturn]] void fail(const std::string& what) const;  // FileError naming the checkpoint
    const CheckpointTensor* find(const std::string& name) const { return reader_.find(name); }

    // The tensor as a matrix (rows, cols), or an error that says what was expected.
    const CheckpointTensor& need(const std::string& name, int64_t rows, int64_t cols);
    TensorPlan& add(const std::string& name, const CheckpointTensor& source, bool f32_always);
    TensorPlan& matrix(const std::string& name, const std::string& source, int64_t rows, int64_t cols) {
        return add(name, need(source, rows, cols), false);
    }
    void vector(const std::string& name, const std::string& source, int64_t n) { add(name, need(source, 1, n), true); }

    void bias(const std::string& name, const std::string& source, int64_t n) {  // taken where it is
        if (find(source)) vector(name, source, n);
    }

    // The Mamba-1 tensors below `prefix` (in_proj, conv1d, …) as those of block `blk`; sizes from the config. Biases of
    // the projections are taken where they are.
    void mamba(const std::string& prefix, const std::string& blk);
    // Of those, what is between the projections: convolution and selective scan.
    void scan(const std::string& prefix, const std::string& blk);
    // output.weight, unless `head` is absent or equals the embedding: then the config is tied.
    void head(const std::string& head, const std::string& embedding);
    // An error when a tensor was not used.
    void finish() const;

    const CheckpointReader& reader() const { return reader_; }

  private:
    const CheckpointReader& reader_;
    std::set<std::string> used_;

    bool equal(const CheckpointTensor& a, const CheckpointTensor& b) const;
};

}  // namespace samba
