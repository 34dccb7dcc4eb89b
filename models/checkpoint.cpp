#include "models/checkpoint.h"

#include <algorithm>

namespace samba {

int64_t CheckpointTensor::cols() const {
    if (shape.empty()) return 1;
    int64_t n = shape.size() > 1 ? 1 : shape[0];
    for (size_t d = 1; d < shape.size(); ++d) n *= shape[d];
    return n;
}

std::string CheckpointTensor::shape_text() const {
    std::string out = "(";
    for (size_t d = 0; d < shape.size(); ++d) out += (d ? ", " : "") + std::to_string(shape[d]);
    return out + ")";
}

const CheckpointTensor* CheckpointReader::find(std::string_view name) const {
    auto it =
        std::lower_bound(tensors_.begin(), tensors_.end(), name, [](const auto& t, auto n) { return t.name < n; });
    return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

}  // namespace samba
