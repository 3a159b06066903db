// Unwraps a result that the test can't go on without.
#pragma once

#include <gtest/gtest.h>

#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/result.h"

namespace weir::runtime {

template <class T>
T must(Result<T> result) {
    if (!result) ADD_FAILURE() << result.error().to_string();
    CHECK(result.has_value());
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace weir::runtime
