// The goldens of tests/goldens (made by make_goldens.py there) and a way to run a model file over them on any backend.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/samba.h"
#include "tests/npy.h"

namespace samba {

// Token ids, and what an independent float64 pass of one model file gives for them.
struct Golden {
    std::vector<int32_t> ids, positions;
    std::vector<float> logits;  // (positions, vocab)
    std::vector<float> nll;     // (ids - 1): -log p(ids[i + 1])

    std::span<const float> logits_of(size_t i) const {
        size_t vocab = logits.size() / positions.size();
        return std::span(logits).subspan(i * vocab, vocab);
    }
};

// sequence: "short" (20 tokens) or "long" (3000, across the window).
inline Golden read_golden(const std::string& model, const std::string& sequence) {
    std::string root = std::string(SAMBA_SOURCE_DIR) + "/tests/goldens/";
    return {read_npy<int32_t>(root + sequence + "_ids.npy"), read_npy<int32_t>(root + sequence + "_positions.npy"),
            read_npy<float>(root + model + "/" + sequence + "_logits.npy"),
            read_npy<float>(root + model + "/" + sequence + "_nll.npy")};
}

// ‖got - want‖ / ‖want‖
inline double relative_error(std::span<const float> got, std::span<const float> want) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        double d = static_cast<double>(got[i]) - want[i];
        difference += d * d;
        norm += static_cast<double>(want[i]) * want[i];
    }
    return std::sqrt(difference / norm);
}

// How a sequence is fed: in steps of `rows` rows, up to position `until` (or the end).
struct Portion {
    StepKind kind = StepKind::kPrefill;
    int rows = 512;
    int64_t until = INT64_MAX;
};

// A model file on a backend, with one slot.
class GoldenModel {
  public:
    GoldenModel(ModelFile file, std::unique_ptr<Backend> backend)
        : file_(std::move(file)), backend_(std::move(backend)) {
        Samba::Options options;
        options.ring_type = file_.weight_type == DType::kF32 ? DType::kF32 : DType::kF16;
        model_ = std::make_unique<Samba>(file_, *backend_, options);
    }

    using Wanted = std::function<bool(int64_t position)>;
    using OnLogits = std::function<void(int64_t position, std::span<const float> logits)>;

    // Feeds ids to a fresh slot, the last portion to the end; on_logits gets the logits of the wanted positions.
    void feed(std::span<const int32_t> ids, std::span<const Portion> portions, const Wanted& wanted,
              const OnLogits& on_logits) {
        backend_->zero(model_->slot(0), model_->layout().slot_bytes);
        int64_t position = 0, end = static_cast<int64_t>(ids.size());
        for (const Portion& portion : portions) {
            while (position < std::min(portion.until, end)) {
                int64_t n = std::min<int64_t>({portion.rows, portion.until - position, end - position});
                run(portion.kind, ids.subspan(static_cast<size_t>(position), static_cast<size_t>(n)), position, wanted,
                    on_logits);
                position += n;
            }
        }
    }

    // The error of each golden position, in their order.
    std::vector<double> errors(const Golden& golden, std::span<const Portion> portions) {
        std::vector<double> all;
        auto wanted = [&](int64_t position) { return std::ranges::count(golden.positions, position) > 0; };
        feed(golden.ids, portions, wanted, [&](int64_t, std::span<const float> logits) {
            all.push_back(relative_error(logits, golden.logits_of(all.size())));
        });
        return all;
    }

    const Samba& samba() const { return *model_; }

  private:
    ModelFile file_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Samba> model_;

    void run(StepKind kind, std::span<const int32_t> ids, int64_t position, const Wanted& wanted,
             const OnLogits& on_logits) {
        Step step;
        step.kind = kind;
        step.runs = {{.slot = 0, .position = position, .first_row = 0, .n_rows = static_cast<int>(ids.size())}};
        step.tokens.assign(ids.begin(), ids.end());
        for (int row = 0; row < step.n_rows(); ++row) {
            if (wanted(position + row)) step.wanted.push_back(row);
        }
        step.on_logits = [&](int first, View logits) {
            for (int64_t i = 0; i < logits.rows; ++i) {
                int row = step.wanted[static_cast<size_t>(first + i)];
                on_logits(position + row, {logits.f32(i), static_cast<size_t>(logits.cols)});
            }
        };
        backend_->submit(step, [this](const Step& s) { model_->forward(s); });
        backend_->receive();
    }
};

}  // namespace samba
