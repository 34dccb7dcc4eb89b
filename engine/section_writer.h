// A summary that the model writes: every section through the prompt "summarize", then summaries of the summaries.
#pragma once
#include <string>

#include "engine/prompts.h"
#include "engine/summarizer.h"

namespace samba {

class SectionWriter : public Summarizer {
  public:
    // Takes a slot; throws UsageError without a template. Sampling and the summary's length are the options'; the
    // sections' summaries are at most a quarter of a section long.
    SectionWriter(Engine& engine, Options options, const PromptText& prompt, const GenerateOptions& generation);

  protected:
    std::optional<Section> reduce(Section section, bool last, const OnToken& on_token) override;

  private:
    Session session_;
    PromptText prompt_;
    GenerateOptions generation_;
};

}  // namespace samba
