// Finds stop texts in a stream of text, and holds back what may still become one.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace samba {

class StopFilter {
  public:
    explicit StopFilter(std::vector<std::string> stops);

    // The text that is certain to be shown now. After a stop text was found, what stood before it; then push no more.
    std::string push(const std::string& text);
    std::string finish();  // what was held back, when no more text comes
    const std::optional<std::string>& found() const { return found_; }
    size_t longest() const;  // bytes of the longest stop text; 0: none

  private:
    std::vector<std::string> stops_;
    std::string held_;
    std::optional<std::string> found_;
};

}  // namespace samba
