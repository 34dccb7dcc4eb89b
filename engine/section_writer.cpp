#include "engine/section_writer.h"

#include <algorithm>

#include "engine/text_stream.h"

namespace samba {

SectionWriter::SectionWriter(Engine& engine, Options options, const PromptText& prompt,
                             const GenerateOptions& generation)
    : Summarizer(engine.tokenizer(), std::move(options)), session_(engine), prompt_(prompt), generation_(generation) {
    const Tokenizer& t = engine.tokenizer();
    generation_.end_ids = engine.require_template().end_ids(t);
    generation_.end_ids.insert(generation_.end_ids.end(), t.end_ids().begin(), t.end_ids().end());
    generation_.strip_first_space = t.adds_space();
}

std::optional<Summarizer::Section> SectionWriter::reduce(Section section, bool last, const OnToken& on_token) {
    std::string text;
    for (const Piece& piece : section) {
        if (!text.empty()) text += piece.new_paragraph ? "\n\n" : " ";
        text += clean_text(piece.part.text);
    }
    if (text.empty()) return Section{};
    const Engine& engine = session_.engine();
    const Tokenizer& t = engine.tokenizer();
    const ChatTemplate& chat = engine.require_template();
    std::vector<int32_t> ids = chat.begin(t);
    for (const auto& more : {chat.encode(t, {"user", prompt_.fill(text)}), chat.reply_opening(t)}) {
        ids.insert(ids.end(), more.begin(), more.end());
    }
    GenerateOptions generation = generation_;
    if (!last) {
        int64_t most = std::max<int64_t>(options_.section_tokens / 4, 1);
        generation.max_tokens = generation.max_tokens < 0 ? most : std::min(generation.max_tokens, most);
    }
    auto stopped = [&] { return options_.stop && options_.stop(); };
    session_.reset();
    Reply reply = generate(
        session_, ids, generation,
        [&](const TokenEvent& event) { return !stopped() && (!on_token || on_token(event)); },
        [&](int64_t) { return !stopped(); });
    if (reply.finish == FinishReason::kInterrupted) return {};
    Piece piece;
    piece.part.text = reply.text;
    piece.new_paragraph = true;
    piece.tokens = static_cast<int64_t>(reply.ids.size());
    Section written;
    if (!reply.text.empty()) written.push_back(std::move(piece));
    return written;
}

}  // namespace samba
