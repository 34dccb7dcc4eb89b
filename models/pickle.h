// A reader of the pickles that PyTorch saves: it understands what state dicts need, knows the globals on a short list
// by name, and calls nothing. Everything else is an error. (Python's pickletools documents the opcodes.)
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace samba {

struct PickleValue {
    // kOther: something whose content does not matter here (a dtype, a device, an integer beyond 64 bits).
    enum Kind { kNone, kBool, kInt, kFloat, kString, kList, kDict, kGlobal, kStorage, kTensor, kOther };
    Kind kind = kNone;
    int depth = 1;
    int64_t integer = 0;  // of kBool, kInt; the number of elements of a storage; a tensor's offset in its storage
    double number = 0;    // of kFloat
    std::string text;     // of kString; the name of a global ("torch FloatStorage"); the key of a storage
    std::string type;     // of kStorage: the name of its class, "FloatStorage"
    std::vector<PickleValue*> items;                           // of kList: list, tuple or set
    std::vector<std::pair<PickleValue*, PickleValue*>> pairs;  // of kDict, in order
    const PickleValue* storage = nullptr;                      // of kTensor
    std::vector<int64_t> shape, strides;                       // of kTensor, in elements

    const PickleValue* get(std::string_view key) const;  // of a dict; null when absent
};

class Pickle {
  public:
    // `where` names the file in errors. Throws FileError. At most 1M opcodes and 64 levels.
    Pickle(std::string_view bytes, const std::string& where);
    const PickleValue& root() const { return *root_; }

  private:
    std::deque<PickleValue> values_;
    const PickleValue* root_ = nullptr;
    friend class Unpickler;
};

}  // namespace samba
