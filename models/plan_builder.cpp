#include "models/plan_builder.h"

#include <cstring>

#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

void PlanBuilder::fail(const std::string& what) const { throw FileError(in_quotes(reader_.where()) + ": " + what); }

const CheckpointTensor& PlanBuilder::need(const std::string& name, int64_t rows, int64_t cols) {
    const CheckpointTensor* t = find(name);
    std::string shape = "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")";
    if (!t) fail("tensor " + in_quotes(name) + " is missing: expected shape " + shape);
    if (t->rows() != rows || t->cols() != cols) {
        fail("tensor " + in_quotes(name) + ": expected shape " + shape + ", found " + t->shape_text());
    }
    if (!t->type) fail("tensor " + in_quotes(name) + ": expected type F32, F16 or BF16, found " + t->type_name);
    if (used_.insert(name).second) plan.n_parameters += rows * cols;
    return *t;
}

TensorPlan& PlanBuilder::add(const std::string& name, const CheckpointTensor& source, bool f32_always) {
    plan.tensors.push_back({name, source.rows(), source.cols(), f32_always, &source, {{0, source.rows()}}, false});
    return plan.tensors.back();
}

void PlanBuilder::mamba(const std::string& prefix, const std::string& blk) {
    int64_t d = plan.config.d_inner, d_model = plan.config.d_model;
    matrix(blk + "ssm_in.weight", prefix + "in_proj.weight", 2 * d, d_model);
    bias(blk + "ssm_in.bias", prefix + "in_proj.bias", 2 * d);
    scan(prefix, blk);
    matrix(blk + "ssm_out.weight", prefix + "out_proj.weight", d_model, d);
    bias(blk + "ssm_out.bias", prefix + "out_proj.bias", d_model);
}

void PlanBuilder::scan(const std::string& prefix, const std::string& blk) {
    const Config& c = plan.config;
    int64_t d = c.d_inner, dbc = c.dt_rank + 2 * int64_t{c.d_state};
    add(blk + "ssm_conv1d.weight", need(prefix + "conv1d.weight", d, c.d_conv), true);
    bias(blk + "ssm_conv1d.bias", prefix + "conv1d.bias", d);
    matrix(blk + "ssm_x.weight", prefix + "x_proj.weight", dbc, d);
    matrix(blk + "ssm_dt.weight", prefix + "dt_proj.weight", d, c.dt_rank);
    vector(blk + "ssm_dt.bias", prefix + "dt_proj.bias", d);
    add(blk + "ssm_a", need(prefix + "A_log", d, c.d_state), true).negative_exp = true;
    vector(blk + "ssm_d", prefix + "D", d);
}

void PlanBuilder::head(const std::string& head, const std::string& embedding) {
    plan.config.tied = true;
    if (!find(head)) return;
    int64_t before = plan.n_parameters;
    const CheckpointTensor& t = need(head, plan.config.vocab_size, plan.config.d_model);
    plan.config.tied = equal(t, *find(embedding));
    if (plan.config.tied) {
        plan.n_parameters = before;
    } else {
        add("output.weight", t, false);
    }
}

bool PlanBuilder::equal(const CheckpointTensor& a, const CheckpointTensor& b) const {
    std::vector<float> x(static_cast<size_t>(a.cols())), y(x.size());
    for (int64_t row = 0; row < a.rows(); ++row) {
        reader_.read_rows(a, row, 1, x.data());
        reader_.read_rows(b, row, 1, y.data());
        if (std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) != 0) return false;
    }
    return true;
}

void PlanBuilder::finish() const {
    for (const CheckpointTensor& t : reader_.tensors()) {
        // What is computed, or never was: rotary frequencies; a buffer that Mega's code leaves as it found it.
        if (used_.count(t.name) || t.name.ends_with(".inv_freq") || t.name.ends_with("._float_tensor")) continue;
        fail("tensor " + in_quotes(t.name) + " " + t.shape_text() + " is not known for " + plan.kind);
    }
}

}  // namespace samba
