// samba-lm tokenize: text to token ids, and back.
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/output.h"
#include "app/token_ids.h"
#include "kernels/error.h"

namespace samba {
namespace {

struct Options {
    std::optional<std::string> text, file, ids;
    bool plain = false, json = false;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm tokenize \"Once upon a time\"\n"
    "  samba-lm tokenize -f story.txt --plain > story.ids\n"
    "  samba-lm tokenize --ids story.ids\n"
    "  samba-lm tokenize --ids 1,334,17 --json";

void print_tokens(const Options& o, const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                  const std::string& text) {
    if (o.json) {
        auto pieces = nlohmann::ordered_json::array();
        for (int32_t id : ids) pieces.push_back(tokenizer.piece(id));
        print_json({{"v", 1}, {"text", text}, {"n_tokens", ids.size()}, {"ids", ids}, {"pieces", pieces}});
    } else if (o.plain) {
        for (size_t i = 0; i < ids.size(); ++i) print((i > 0 ? "," : "") + std::to_string(ids[i]));
        print("\n");
    } else {
        for (int32_t id : ids) print(std::to_string(id) + "\t" + visible_line(tokenizer.piece(id)) + "\n");
    }
}

int run(const Options& o, const CommonOptions& common) {
    int given = o.text.has_value() + o.file.has_value() + o.ids.has_value();
    if (given > 1) throw UsageError("give one of TEXT, --file and --ids");
    EngineOptions options = engine_options(common);
    options.device = "cpu";
    std::unique_ptr<Engine> engine = open_engine(options);
    const Tokenizer& tokenizer = engine->tokenizer();
    if (o.ids) {
        std::vector<int32_t> ids = parse_ids(*o.ids, tokenizer.vocab_size());
        std::string text = tokenizer.decode(ids);
        if (o.json || o.plain) {
            print_tokens(o, tokenizer, ids, text);
        } else {
            print_text(text);
            if (stdout_is_terminal() && !text.ends_with('\n')) print("\n");
        }
        return 0;
    }
    std::string text = o.text ? *o.text : read_file(o.file.value_or("-"));
    print_tokens(o, tokenizer, tokenizer.encode(text), text);
    return 0;
}

}  // namespace

RunCommand add_tokenize(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    add_text(app, "TEXT", o->text, "TEXT", "the text, taken as it is [standard input]");
    one_shot(add_text(app, "-f,--file", o->file, "FILE", "the text from a file; - is standard input"));
    one_shot(add_text(app, "--ids", o->ids, "LIST|FILE", "the other way: prints the text of these ids"));
    add_flag(app, "--plain", o->plain, "the ids alone, on one line, separated by commas");
    add_flag(app, "--json", o->json, "text, ids and pieces as JSON");
    add_model_file_option(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
