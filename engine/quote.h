// A summary by quotation: the text's own key sentences (docs/summaries.md has the recipe and what it is worth).
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "engine/reply_scorer.h"
#include "engine/summarizer.h"
#include "engine/words.h"

namespace samba {

struct Costs {
    int64_t words, tokens;
};

class Quote : public Summarizer {
  public:
    struct Recipe {
        int64_t words = 100;               // of the summary
        std::string language = "english";  // of WordStems
    };
    // `scorer` may be null: then the sentences are ranked without the model.
    Quote(const Tokenizer& tokenizer, Options options, const Recipe& recipe, std::unique_ptr<ReplyScorer> scorer);

    // The tokens before a reply to the bare request, in the engine's template; without one, the request as raw text.
    static std::vector<int32_t> request_ids(const Engine& engine, const std::string& request);

  protected:
    std::optional<Section> reduce(Section section, bool last, const OnToken& on_token) override;
    void score(Section& section) override;
    double weigh(const Piece& piece) const override;
    void pass(const Piece& piece) override;
    void save_passed(ByteWriter& w) const override;
    void resume_passed(ByteReader& r) override;

  private:
    Recipe recipe_;
    WordStems stems_;
    std::unique_ptr<ReplyScorer> scorer_;
    std::deque<std::vector<std::string>> headings_;  // the stems of the last ones passed

    std::vector<Piece*> candidates(Section& section, Costs most) const;
    bool is_candidate(const Piece& piece) const;
    std::vector<double> rank(const std::vector<Piece*>& pieces) const;
    void hear_model(std::vector<Piece*>& pieces, std::vector<double>& scores, size_t most_heard);
    Costs most_of(bool last) const;
};

// (v - mean) / deviation of each; zeros where all are alike.
std::vector<double> standardised(const std::vector<double>& values);

// The indices of the n best, the best one first.
std::vector<size_t> best(const std::vector<double>& scores, size_t n);

// The indices of what is taken, ascending: by score, what fits into that many words and tokens, of the `most_tried`
// best.
std::vector<size_t> pick(const std::vector<double>& scores, const std::vector<Costs>& costs, Costs most,
                         size_t most_tried);

}  // namespace samba
