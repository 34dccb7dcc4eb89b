#include "app/table.h"

#include <algorithm>

namespace samba {
namespace {

size_t width_of(const std::string& text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

Table::Table(std::vector<std::string> headings) {
    for (std::string& heading : headings) {
        right_.push_back(heading.starts_with('>'));
        if (right_.back()) heading.erase(0, 1);
    }
    rows_.push_back(std::move(headings));
}

std::vector<size_t> Table::widths() const {
    std::vector<size_t> widths(right_.size());
    for (const auto& row : rows_) {
        for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
    }
    return widths;
}

std::string Table::padded(const std::string& cell, size_t column, size_t width) const {
    std::string space(width - width_of(cell), ' ');
    return right_[column] ? space + cell : cell + space;
}

std::string Table::text() const {
    std::string out;
    std::vector<size_t> wide = widths();
    for (const auto& row : rows_) {
        std::string line;
        for (size_t i = 0; i < row.size(); ++i) line += (i > 0 ? "  " : "") + padded(row[i], i, wide[i]);
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + "\n";
    }
    return out;
}

std::string Table::markdown() const {
    std::string out;
    std::vector<size_t> wide = widths();
    for (size_t r = 0; r < rows_.size(); ++r) {
        for (size_t i = 0; i < rows_[r].size(); ++i)
            out.append("| ").append(padded(rows_[r][i], i, wide[i])).append(" ");
        out += "|\n";
        if (r > 0) continue;
        for (size_t i = 0; i < wide.size(); ++i) {
            out += "|" + std::string(wide[i] + 1, '-') + (right_[i] ? ":" : "-");
        }
        out += "|\n";
    }
    return out;
}

std::string Table::csv() const {
    std::string out;
    for (const auto& row : rows_) {
        for (size_t i = 0; i < row.size(); ++i) {
            std::string cell = row[i];
            if (cell.find_first_of(",\"\r\n") != std::string::npos) {
                for (size_t at = 0; (at = cell.find('"', at)) != std::string::npos; at += 2) cell.insert(at, 1, '"');
                cell.insert(0, 1, '"').append(1, '"');
            }
            out += (i > 0 ? "," : "") + cell;
        }
        out += "\n";
    }
    return out;
}

}  // namespace samba
