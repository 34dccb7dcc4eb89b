// samba-lm logits: the raw logits of given tokens, so that anyone can check the engine against another implementation.
#include <CLI/App.hpp>
#include <algorithm>

#include "app/commands.h"
#include "app/model_text.h"
#include "app/npy_file.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "app/token_ids.h"
#include "engine/session.h"
#include "kernels/error.h"
#include "models/progress.h"

namespace samba {
namespace {

struct Options {
    std::optional<std::string> ids;
    std::vector<int64_t> positions;
    int64_t chunk = 0;
    std::string output;
    bool force = false;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm logits --ids 1,334,17 -o logits.npy\n"
    "  samba-lm logits --ids story.ids --positions 0,511,2047 -o logits.npy\n"
    "  samba-lm logits --ids story.ids --chunk 1 -o step_by_step.npy";

// The rows wanted, ascending, each once.
std::vector<int64_t> wanted_positions(std::vector<int64_t> given, int64_t n_tokens) {
    if (given.empty()) {
        for (int64_t p = 0; p < n_tokens; ++p) given.push_back(p);
        return given;
    }
    std::sort(given.begin(), given.end());
    if (std::adjacent_find(given.begin(), given.end()) != given.end()) {
        throw UsageError("--positions: a position comes twice");
    }
    if (given.back() >= n_tokens) {
        throw UsageError("--positions: " + std::to_string(given.back()) + ", but there are only " +
                         std::to_string(n_tokens) + " tokens (positions count from 0)");
    }
    return given;
}

int run(const Options& o, const CommonOptions& common) {
    require("--ids", o.ids.has_value());
    require("-o/--output", !o.output.empty());
    std::unique_ptr<Engine> engine = open_engine(engine_options(common));
    std::vector<int32_t> ids = parse_ids(*o.ids, engine->config().vocab_size);
    if (ids.empty()) throw UsageError("--ids: no token ids");
    std::vector<int64_t> wanted = wanted_positions(o.positions, static_cast<int64_t>(ids.size()));
    NpyFile file(o.output, o.force, static_cast<int64_t>(wanted.size()), engine->config().vocab_size);

    Session session(*engine);
    Progress progress("reading", "tokens", ids.size());
    auto next = wanted.begin();
    StepKind kind = o.chunk == 1 ? StepKind::kDecode : StepKind::kPrefill;
    size_t piece = o.chunk > 0 ? static_cast<size_t>(o.chunk) : static_cast<size_t>(engine->backend().prefill_chunk());
    for (size_t at = 0; at < ids.size() && next != wanted.end(); at += piece) {
        if (interrupted()) throw Cancelled("interrupted; " + visible_line(o.output) + " was not written");
        std::span<const int32_t> part = std::span(ids).subspan(at, std::min(piece, ids.size() - at));
        if (kind == StepKind::kPrefill && *next >= static_cast<int64_t>(at + part.size())) {
            session.feed(part);  // no row of these is wanted
        } else {
            session.feed_with_logits(
                part,
                [&](int64_t position, std::span<const float> logits) {
                    if (next == wanted.end() || *next != position) return;
                    file.add_row(logits);
                    ++next;
                },
                kind);
        }
        progress.update(at + part.size());
    }
    file.finish();
    return 0;
}

}  // namespace

RunCommand add_logits(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    one_shot(add_text(app, "--ids", o->ids, "LIST|FILE", "the tokens: 1,2,3 or a file of ids"));
    one_shot(add_integers(app, "--positions", o->positions, "LIST", "only the rows of these tokens, counted from 0"));
    one_shot(add_text(app, "-o,--output", o->output, "FILE", "the .npy file to write: float32 (tokens, vocabulary)"));
    add_integer(app, "--chunk", o->chunk, "N",
                "feed N tokens at a time; 1: one by one, as generation does [the device's]", {1, 1 << 20});
    one_shot(add_flag(app, "--force", o->force, "replace an existing output file"));
    add_model_options(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
