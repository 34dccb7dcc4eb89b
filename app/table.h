// A table for people: columns as wide as their widest cell.
#pragma once
#include <string>
#include <vector>

namespace samba {

class Table {
  public:
    // A heading that begins with '>' aligns its column to the right.
    explicit Table(std::vector<std::string> headings);
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

    std::string text() const;      // plain, two spaces between columns
    std::string markdown() const;  // | a | b |
    std::string csv() const;       // RFC 4180

  private:
    std::vector<bool> right_;
    std::vector<std::vector<std::string>> rows_;  // the headings first

    std::vector<size_t> widths() const;
    std::string padded(const std::string& cell, size_t column, size_t width) const;
};

}  // namespace samba
