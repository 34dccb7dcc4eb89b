// samba-lm perplexity: how well the model predicts a text, in windows or as one stream without end.
#include <spdlog/spdlog.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cmath>
#include <deque>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/model_text.h"
#include "app/output.h"
#include "app/perplexity.h"
#include "app/progress.h"
#include "app/signals.h"
#include "app/table.h"
#include "engine/session.h"
#include "kernels/error.h"
#include "models/progress.h"

namespace samba {
namespace {

struct Options {
    std::string file = "-", base, format = "md";
    std::optional<int64_t> context;
    bool stream = false, by_position = false, json = false;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm perplexity -f book.txt\n"
    "  samba-lm perplexity -f book.txt --context 512 --json\n"
    "  samba-lm perplexity -f library.txt --stream --by-position\n"
    "  samba-lm perplexity -m small.gguf -f book.txt --kl-base model.gguf";

struct Scores {
    Mean nll, kl;
    int64_t same_best = 0;  // tokens whose likeliest guess is the base's
    ByPosition by_position;
};

// A model that reads along. Logits come with the position after which they were computed.
struct Reader {
    std::unique_ptr<Engine> engine;
    std::unique_ptr<Session> session;

    explicit Reader(const EngineOptions& options)
        : engine(open_engine(options)), session(std::make_unique<Session>(*engine)) {}
};

size_t best(std::span<const float> logits) {
    return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Feeds tokens as they come and scores each by the logits of the one before it.
class Scorer {
  public:
    Scorer(Reader& model, Reader* base, int64_t context, Scores& scores)
        : model_(model), base_(base), context_(context), scores_(scores) {}

    void push(std::span<const int32_t> ids) {
        while (!ids.empty()) {
            if (context_ > 0 && model_.session->position() == context_) restart();
            if (model_.session->position() == 0) begin();
            size_t n = ids.size();
            if (context_ > 0) n = std::min(n, static_cast<size_t>(context_ - model_.session->position()));
            feed(ids.first(n));
            ids = ids.subspan(n);
        }
    }

  private:
    Reader& model_;
    Reader* base_;
    int64_t context_;
    Scores& scores_;
    std::vector<float> last_, base_last_;  // logits after the token fed last; empty at the start

    void restart() {
        model_.session->reset();
        if (base_) base_->session->reset();
        last_.clear();
    }

    void begin() {
        const Tokenizer& t = model_.engine->tokenizer();
        if (t.add_bos()) feed(std::vector<int32_t>{t.bos()});
    }

    void feed(std::span<const int32_t> ids) {
        std::deque<std::vector<float>> base_rows;
        if (base_) {
            if (!last_.empty()) base_rows.push_back(base_last_);
            base_->session->feed_with_logits(ids, [&](int64_t, std::span<const float> logits) {
                base_rows.emplace_back(logits.begin(), logits.end());
            });
            base_last_ = base_rows.back();
        }
        auto score = [&](int64_t position, std::span<const float> logits, int32_t token) {
            double nll = nll_of(logits, token);
            scores_.nll.add(nll);
            scores_.by_position.add(position, nll);
            if (!base_) return;
            scores_.kl.add(kl_divergence(base_rows.front(), logits));
            scores_.same_best += best(base_rows.front()) == best(logits);
            base_rows.pop_front();
        };
        int64_t first = model_.session->position();
        if (!last_.empty()) score(first, last_, ids[0]);
        model_.session->feed_with_logits(ids, [&](int64_t position, std::span<const float> logits) {
            auto next = static_cast<size_t>(position - first + 1);
            if (next < ids.size())
                score(position + 1, logits, ids[next]);
            else
                last_.assign(logits.begin(), logits.end());
        });
    }
};

nlohmann::ordered_json positions_json(const ByPosition& by_position) {
    auto list = nlohmann::ordered_json::array();
    for (const ByPosition::Bucket& b : by_position.buckets()) {
        list.push_back({{"from", b.from}, {"to", b.to}, {"tokens", b.nll.n}, {"nll", b.nll.mean()}});
    }
    return list;
}

void report_json(const Options& o, const Engine& engine, const Scores& s, int64_t context) {
    nlohmann::ordered_json report = {
        {"v", 1},
        {"model", model_name(engine)},
        {"tokens", s.nll.n},
        {"nll", s.nll.mean()},
        {"perplexity", std::exp(s.nll.mean())},
        {"stderr", s.nll.standard_error()},
        {"context", context > 0 ? nlohmann::ordered_json(context) : nullptr},
        {"positions", o.by_position ? positions_json(s.by_position) : nlohmann::ordered_json::array()}};
    if (!o.base.empty()) {
        report["kl"] = s.kl.mean();
        report["kl_stderr"] = s.kl.standard_error();
        report["same_best"] = static_cast<double>(s.same_best) / static_cast<double>(std::max<int64_t>(s.kl.n, 1));
    }
    print_json(report);
}

void report_text(const Options& o, const Scores& s, int64_t context) {
    if (o.by_position) {
        Table table({">from", ">to", ">tokens", ">nll", ">stderr", ">perplexity"});
        for (const ByPosition::Bucket& b : s.by_position.buckets()) {
            table.add({std::to_string(b.from), std::to_string(b.to), std::to_string(b.nll.n), fixed(b.nll.mean(), 4),
                       fixed(b.nll.standard_error(), 4), fixed(std::exp(b.nll.mean()), 3)});
        }
        print(o.format == "csv" ? table.csv() : table.markdown());
        if (o.format == "csv") return;
        print("\n");
    }
    print("perplexity " + fixed(std::exp(s.nll.mean()), 3) + ", nll " + fixed(s.nll.mean(), 4) + " ± " +
          fixed(s.nll.standard_error(), 4) + " nats, " + with_commas(s.nll.n) + " tokens, " +
          (context > 0 ? "context " + std::to_string(context) : std::string("one stream")) + "\n");
    if (o.base.empty()) return;
    print("against the base: KL " + fixed(s.kl.mean(), 5) + " ± " + fixed(s.kl.standard_error(), 5) +
          " nats, the same best token for " +
          fixed(100.0 * static_cast<double>(s.same_best) / static_cast<double>(std::max<int64_t>(s.kl.n, 1)), 2) +
          " %\n");
}

int64_t context_of(const Options& o, const Engine& engine) {
    if (o.stream) return 0;
    constexpr int64_t kUsual = 2048;
    int64_t trained = engine.config().context_length;
    return o.context.value_or(trained > 0 ? trained : kUsual);
}

std::unique_ptr<Reader> open_base(const Options& o, const CommonOptions& common, const Reader& model) {
    if (o.base.empty()) return nullptr;
    CommonOptions of_base = common;
    of_base.model = o.base;
    of_base.preset.clear();
    auto base = std::make_unique<Reader>(engine_options(of_base));
    int64_t expected = model.engine->config().vocab_size, found = base->engine->config().vocab_size;
    if (expected != found) {
        throw UsageError("--kl-base " + visible_line(o.base) + ": another vocabulary (" + std::to_string(found) +
                         " tokens, the model has " + std::to_string(expected) + ")");
    }
    return base;
}

int run(const Options& o, const CommonOptions& common) {
    if (o.stream && o.context) throw UsageError("--context and --stream contradict each other");
    Reader model(engine_options(common));
    std::unique_ptr<Reader> base = open_base(o, common, model);
    int64_t context = context_of(o, *model.engine);
    Scores scores;
    Scorer scorer(model, base.get(), context, scores);
    Progress progress("reading", "tokens");
    StreamEncoder encoder(model.engine->tokenizer());
    std::vector<int32_t> ids;
    auto score = [&] {
        scorer.push(ids);
        ids.clear();
        progress.update(static_cast<uint64_t>(scores.nll.n), "perplexity " + fixed(std::exp(scores.nll.mean()), 3));
    };
    size_t piece_bytes = 4 * static_cast<size_t>(model.engine->backend().prefill_chunk());  // about a chunk of tokens
    try {
        read_input(o.file, [&](std::string_view piece) {
            for (size_t at = 0; at < piece.size() && !interrupted(); at += piece_bytes) {
                encoder.push(piece.substr(at, piece_bytes), ids);
                score();
            }
        });
        encoder.finish(ids);
        score();
    } catch (const Cancelled&) {
        spdlog::warn("interrupted: the numbers are of what was read so far");
    }
    hide_progress();
    if (scores.nll.n == 0 && !interrupted()) throw UsageError("nothing to predict: the text has no second token");
    o.json || o.format == "json" ? report_json(o, *model.engine, scores, context) : report_text(o, scores, context);
    return interrupt_status();
}

}  // namespace

RunCommand add_perplexity(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    one_shot(add_text(app, "-f,--file", o->file, "FILE", "the text, taken as it is [standard input]"));
    add_integer(app, "--context", o->context, "N", "windows of N tokens, each read from a fresh state [the training's]",
                {2, INT64_MAX});
    add_flag(app, "--stream", o->stream, "one stream: the state is never reset");
    add_flag(app, "--by-position", o->by_position, "the likelihood by position, too");
    one_shot(add_text(app, "--kl-base", o->base, "FILE",
                      "a model to compare with: Kullback-Leibler divergence from it, and how often the best token "
                      "agrees"));
    add_choice(app, "--format", o->format, {"md", "csv", "json"}, "how to print the table [md]");
    add_flag(app, "--json", o->json, "the report as JSON");
    add_model_options(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
