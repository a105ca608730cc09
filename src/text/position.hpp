// Where a text stands: at the beginning of a sequence, or behind other text. Behind other text
// nothing is put in front of the text and no white space at its front is taken off.
#pragma once

namespace mora {

enum class Position { beginning, continuation };

}  // namespace mora
