#include "app/npy_file.h"

#include <cassert>

namespace samba {

NpyFile::NpyFile(const std::string& path, bool force, int64_t rows, int64_t cols)
    : file_(path, force), rows_left_(rows) {
    constexpr size_t kPreamble = 10, kAlignment = 64;
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " +
                         std::to_string(cols) + "), }";
    size_t total = (kPreamble + header.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
    header.append(total - kPreamble - header.size() - 1, ' ');
    header += '\n';
    std::string preamble("\x93NUMPY\x01\x00", 8);
    preamble += static_cast<char>(header.size() & 0xff);
    preamble += static_cast<char>(header.size() >> 8);
    file_.write(preamble.data(), preamble.size());
    file_.write(header.data(), header.size());
}

void NpyFile::add_row(std::span<const float> row) {
    --rows_left_;
    file_.write(row.data(), row.size_bytes());
}

void NpyFile::finish() {
    assert(rows_left_ == 0);
    file_.finish();
}

}  // namespace samba
