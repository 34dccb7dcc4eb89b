#include "kernels/cpu/op_table.h"

namespace samba {

const OpKernels kOpsAvx512 = kTable;

}  // namespace samba
