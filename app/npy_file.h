// A NumPy file (format 1.0) of float32 rows: shape (rows, cols), C order, written row by row.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "models/output_file.h"

namespace samba {

class NpyFile {
  public:
    NpyFile(const std::string& path, bool force, int64_t rows, int64_t cols);
    void add_row(std::span<const float> row);
    void finish();  // the file appears; every row must have been added

  private:
    OutputFile file_;
    int64_t rows_left_;
};

}  // namespace samba
