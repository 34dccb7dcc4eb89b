#include "app/token_ids.h"

#include "app/options.h"
#include "app/output.h"
#include "kernels/error.h"

namespace samba {

std::vector<int32_t> parse_ids(const std::string& list_or_file, int64_t n_vocab) {
    bool is_list = list_or_file.empty() || (list_or_file[0] >= '0' && list_or_file[0] <= '9');
    std::string path = list_or_file.starts_with('@') ? list_or_file.substr(1) : list_or_file;
    std::string text = is_list ? list_or_file : read_file(path);
    std::string where = is_list ? "--ids" : "--ids " + visible_line(path);
    constexpr std::string_view kBetween = " \t\r\n,[]";
    std::vector<int32_t> ids;
    for (size_t at = text.find_first_not_of(kBetween); at < text.size(); at = text.find_first_not_of(kBetween, at)) {
        size_t end = std::min(text.find_first_of(kBetween, at), text.size());
        int64_t id = parse_integer(where, text.substr(at, std::min<size_t>(end - at, 40)));
        if (id >= n_vocab) {
            throw UsageError(where + ": token " + std::to_string(id) + ", but the model has only " +
                             std::to_string(n_vocab));
        }
        ids.push_back(static_cast<int32_t>(id));
        at = end;
    }
    return ids;
}

}  // namespace samba
