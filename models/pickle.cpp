#include "models/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

const PickleValue* PickleValue::get(std::string_view key) const {
    for (auto it = pairs.rbegin(); it != pairs.rend(); ++it) {  // the last of equal keys counts, as in Python
        if (it->first->kind == kString && it->first->text == key) return it->second;
    }
    return nullptr;
}

namespace {

constexpr int kMaxOpcodes = 1'000'000, kMaxDepth = 64;

// What may be named. Nothing is called: the reader knows what each of them would give.
constexpr std::string_view kAllowed[] = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.storage UntypedStorage",
    "torch Size",
    "torch device",
    "torch.serialization _get_layout",
    "builtins set",
    "__builtin__ set",
};
constexpr std::string_view kDtypes[] = {"float32", "float64", "float16", "bfloat16", "int64",
                                        "int32",   "int16",   "int8",    "uint8",    "bool"};

bool is_storage_class(std::string_view name) { return name.starts_with("torch ") && name.ends_with("Storage"); }

bool is_allowed(std::string_view name) {
    if (std::find(std::begin(kAllowed), std::end(kAllowed), name) != std::end(kAllowed)) return true;
    if (is_storage_class(name)) return true;
    return name.starts_with("torch ") &&
           std::find(std::begin(kDtypes), std::end(kDtypes), name.substr(6)) != std::end(kDtypes);
}

}  // namespace

class Unpickler {
  public:
    Unpickler(Pickle& pickle, std::string_view bytes, const std::string& where)
        : values_(pickle.values_), bytes_(bytes), where_(where) {}

    const PickleValue* run() {
        for (int n = 0; n < kMaxOpcodes; ++n) {
            uint8_t op = static_cast<uint8_t>(take(1)[0]);
            if (op == '.') return pop();
            if (!literal(op) && !container(op) && !memory(op)) unknown(op);
        }
        fail("more than a million opcodes");
    }

  private:
    std::deque<PickleValue>& values_;
    std::string_view bytes_;
    const std::string& where_;
    size_t at_ = 0;
    std::vector<PickleValue*> stack_;
    std::vector<size_t> marks_;
    std::unordered_map<uint64_t, PickleValue*> memo_;

    [[noreturn]] void fail(const std::string& what) const {
        throw FileError(in_quotes(where_) + ": the pickle is not a PyTorch checkpoint's: " + what + ", at byte " +
                        std::to_string(at_));
    }
    [[noreturn]] void unknown(uint8_t op) const {
        fail("opcode " + std::to_string(op) +
             (op >= 33 && op < 127 ? std::string(" '") + static_cast<char>(op) + "'" : "") + " is not allowed");
    }

    std::string_view take(uint64_t n) {
        if (n > bytes_.size() - at_) fail("it ends early");
        at_ += n;
        return bytes_.substr(at_ - n, n);
    }
    template <class T>
    T number() {
        T value;
        std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
        return value;
    }
    std::string_view line() {
        size_t end = bytes_.find('\n', at_);
        if (end == std::string_view::npos) fail("it ends early");
        std::string_view text = bytes_.substr(at_, end - at_);
        at_ = end + 1;
        return text;
    }

    PickleValue* push(PickleValue::Kind kind) {
        PickleValue& value = values_.emplace_back();
        value.kind = kind;
        stack_.push_back(&value);
        return &value;
    }
    void push_text(std::string_view text) { push(PickleValue::kString)->text = text; }
    void push_int(int64_t i) { push(PickleValue::kInt)->integer = i; }
    PickleValue* pop() {
        if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("its stack is empty");
        PickleValue* top = stack_.back();
        stack_.pop_back();
        return top;
    }
    PickleValue* top(PickleValue::Kind kind) {
        PickleValue* value = pop();
        stack_.push_back(value);
        if (value->kind != kind) fail("a value of another kind than expected");
        return value;
    }
    std::vector<PickleValue*> pop_to_mark() {
        if (marks_.empty()) fail("no mark");
        std::vector<PickleValue*> items(stack_.begin() + static_cast<int64_t>(marks_.back()), stack_.end());
        stack_.resize(marks_.back());
        marks_.pop_back();
        return items;
    }
    void nest(PickleValue* outer, const PickleValue* inner) {
        outer->depth = std::max(outer->depth, inner->depth + 1);
        if (outer->depth > kMaxDepth) fail("nested deeper than 64 levels");
    }
    void append(PickleValue* list, PickleValue* item) {
        nest(list, item);
        list->items.push_back(item);
    }
    void set(PickleValue* dict, PickleValue* key, PickleValue* value) {
        nest(dict, value);
        dict->pairs.emplace_back(key, value);
    }
    void push_list(const std::vector<PickleValue*>& items) {
        PickleValue* list = push(PickleValue::kList);
        for (PickleValue* item : items) append(list, item);
    }
    void push_tuple(size_t n) {
        std::vector<PickleValue*> items(n);
        for (size_t i = n; i-- > 0;) items[i] = pop();
        push_list(items);
    }

    bool literal(uint8_t op);
    bool container(uint8_t op);
    bool memory(uint8_t op);
    void push_long(std::string_view little_endian);
    void push_global(std::string_view module, std::string_view name);
    void persistent_id();
    void reduce();
    void rebuild_tensor(const PickleValue& arguments);
    std::vector<int64_t> integers(const PickleValue& tuple);
};

bool Unpickler::literal(uint8_t op) {
    switch (op) {
        case 0x80:
            take(1);
            return true;  // PROTO
        case 0x95:
            take(8);
            return true;  // FRAME
        case 'N':
            push(PickleValue::kNone);
            return true;
        case 0x88:
            push(PickleValue::kBool)->integer = 1;
            return true;  // NEWTRUE
        case 0x89:
            push(PickleValue::kBool)->integer = 0;
            return true;  // NEWFALSE
        case 'J':
            push_int(number<int32_t>());
            return true;  // BININT
        case 'K':
            push_int(number<uint8_t>());
            return true;
        case 'M':
            push_int(number<uint16_t>());
            return true;
        case 0x8a:
            push_long(take(number<uint8_t>()));
            return true;  // LONG1
        case 'G': {       // BINFLOAT, big-endian
            uint64_t bits = __builtin_bswap64(number<uint64_t>());
            push(PickleValue::kFloat)->number = std::bit_cast<double>(bits);
            return true;
        }
        case 'X':
            push_text(take(number<uint32_t>()));
            return true;  // BINUNICODE
        case 0x8c:
            push_text(take(number<uint8_t>()));
            return true;  // SHORT_BINUNICODE
        case 'T':
            push_text(take(number<uint32_t>()));
            return true;  // BINSTRING
        case 'U':
            push_text(take(number<uint8_t>()));
            return true;  // SHORT_BINSTRING
        default:
            return false;
    }
}

void Unpickler::push_long(std::string_view little_endian) {
    if (little_endian.size() > 8) {
        push(PickleValue::kOther);
        return;
    }
    int64_t value = !little_endian.empty() && (little_endian.back() & 0x80) ? -1 : 0;
    for (size_t i = little_endian.size(); i-- > 0;) {
        value = static_cast<int64_t>(static_cast<uint64_t>(value) << 8 | static_cast<uint8_t>(little_endian[i]));
    }
    push_int(value);
}

bool Unpickler::container(uint8_t op) {
    switch (op) {
        case '(':
            marks_.push_back(stack_.size());
            return true;
        case '}':
            push(PickleValue::kDict);
            return true;
        case ']':
        case ')':
        case 0x8f:
            push(PickleValue::kList);
            return true;  // EMPTY_LIST, _TUPLE, _SET
        case 't':
        case 'l':
            push_list(pop_to_mark());
            return true;
        case 0x85:
            push_tuple(1);
            return true;
        case 0x86:
            push_tuple(2);
            return true;
        case 0x87:
            push_tuple(3);
            return true;
        case 'a': {  // APPEND
            PickleValue* item = pop();
            append(top(PickleValue::kList), item);
            return true;
        }
        case 'e':
        case 0x90: {  // APPENDS, ADDITEMS
            std::vector<PickleValue*> items = pop_to_mark();
            PickleValue* list = top(PickleValue::kList);
            for (PickleValue* item : items) append(list, item);
            return true;
        }
        case 's': {  // SETITEM
            PickleValue* value = pop();
            PickleValue* key = pop();
            set(top(PickleValue::kDict), key, value);
            return true;
        }
        case 'u': {  // SETITEMS
            std::vector<PickleValue*> items = pop_to_mark();
            if (items.size() % 2 != 0) fail("a key without a value");
            PickleValue* dict = top(PickleValue::kDict);
            for (size_t i = 0; i < items.size(); i += 2) set(dict, items[i], items[i + 1]);
            return true;
        }
        case 'c': {  // GLOBAL
            std::string_view module = line();
            push_global(module, line());
            return true;
        }
        case 0x93: {  // STACK_GLOBAL
            PickleValue* name = pop();
            PickleValue* module = pop();
            if (name->kind != PickleValue::kString || module->kind != PickleValue::kString)
                fail("a global without a name");
            push_global(module->text, name->text);
            return true;
        }
        case 'Q':
            persistent_id();
            return true;
        case 'R':
            reduce();
            return true;
        case 'b':
            pop();
            return true;  // BUILD: the attributes of an OrderedDict or a parameter say nothing here
        default:
            return false;
    }
}

bool Unpickler::memory(uint8_t op) {
    auto keep = [&](uint64_t index) {
        PickleValue* value = pop();
        stack_.push_back(value);
        memo_[index] = value;
    };
    auto recall = [&](uint64_t index) {
        auto it = memo_.find(index);
        if (it == memo_.end()) fail("it recalls what it never kept");
        stack_.push_back(it->second);
    };
    switch (op) {
        case 'q':
            keep(number<uint8_t>());
            return true;  // BINPUT
        case 'r':
            keep(number<uint32_t>());
            return true;  // LONG_BINPUT
        case 0x94:
            keep(memo_.size());
            return true;  // MEMOIZE
        case 'h':
            recall(number<uint8_t>());
            return true;  // BINGET
        case 'j':
            recall(number<uint32_t>());
            return true;
        case '0':
            pop();
            return true;  // POP
        default:
            return false;
    }
}

void Unpickler::push_global(std::string_view module, std::string_view name) {
    std::string full = std::string(module) + " " + std::string(name);
    if (!is_allowed(full))
        fail("it names " + in_quotes(std::string(module) + "." + std::string(name)) + ", which is not allowed");
    push(PickleValue::kGlobal)->text = full;
}

// ("storage", class, key, location, number of elements)
void Unpickler::persistent_id() {
    const PickleValue* id = pop();
    const auto& a = id->items;
    bool good = id->kind == PickleValue::kList && a.size() >= 5 && a[0]->kind == PickleValue::kString &&
                a[0]->text == "storage" && a[1]->kind == PickleValue::kGlobal && a[2]->kind == PickleValue::kString &&
                a[4]->kind == PickleValue::kInt;
    if (!good || a[4]->integer < 0) fail("a storage that is described wrongly");
    PickleValue* storage = push(PickleValue::kStorage);
    storage->type = a[1]->text.substr(a[1]->text.find(' ') + 1);
    storage->text = a[2]->text;
    storage->integer = a[4]->integer;
}

// What calling a global on a tuple would give.
void Unpickler::reduce() {
    const PickleValue* arguments = pop();
    const PickleValue* callee = pop();
    if (callee->kind != PickleValue::kGlobal || arguments->kind != PickleValue::kList)
        fail("a call of something that is no global");
    if (callee->text == "torch._utils _rebuild_tensor_v2") {
        rebuild_tensor(*arguments);
    } else if (callee->text == "torch._utils _rebuild_parameter") {
        if (arguments->items.empty() || arguments->items[0]->kind != PickleValue::kTensor)
            fail("a parameter without a tensor");
        stack_.push_back(arguments->items[0]);
    } else if (callee->text == "collections OrderedDict") {
        push(PickleValue::kDict);
    } else {
        push(PickleValue::kOther);
    }
}

// (storage, offset, shape, strides, …)
void Unpickler::rebuild_tensor(const PickleValue& arguments) {
    const auto& a = arguments.items;
    if (a.size() < 4 || a[0]->kind != PickleValue::kStorage || a[1]->kind != PickleValue::kInt)
        fail("a tensor that is described wrongly");
    PickleValue* tensor = push(PickleValue::kTensor);
    tensor->storage = a[0];
    tensor->integer = a[1]->integer;
    tensor->shape = integers(*a[2]);
    tensor->strides = integers(*a[3]);
    if (tensor->shape.size() != tensor->strides.size() || tensor->integer < 0)
        fail("a tensor that is described wrongly");
}

std::vector<int64_t> Unpickler::integers(const PickleValue& tuple) {
    std::vector<int64_t> values;
    for (const PickleValue* item : tuple.items) {
        if (item->kind != PickleValue::kInt || item->integer < 0) fail("a shape that is no tuple of sizes");
        values.push_back(item->integer);
    }
    if (tuple.kind != PickleValue::kList || values.size() > 8) fail("a shape that is no tuple of sizes");
    return values;
}

Pickle::Pickle(std::string_view bytes, const std::string& where) { root_ = Unpickler(*this, bytes, where).run(); }

}  // namespace samba
