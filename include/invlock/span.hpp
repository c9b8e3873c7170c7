/* SPDX-License-Identifier: MIT */
/* A span for C++17: <invlock/invlock.hpp> includes this. Since: 0.1 */
#ifndef INVLOCK_SPAN_HPP
#define INVLOCK_SPAN_HPP

#include <cstddef>
#include <type_traits>
#if __cplusplus >= 202002L && __has_include(<span>)
#include <span>
#endif

namespace invlock {

/* Objects that follow each other in memory. It converts to std::span, where there is one. */
template <typename T>
class span {
public:
	using element_type = T;
	using value_type = std::remove_cv_t<T>;
	using iterator = T *;

	constexpr span() noexcept = default;
	constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

	constexpr T *data() const noexcept { return data_; }
	constexpr std::size_t size() const noexcept { return size_; }
	constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
	constexpr bool empty() const noexcept { return !size_; }
	constexpr T *begin() const noexcept { return data_; }
	constexpr T *end() const noexcept { return data_ + size_; }
	constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

private:
	T *data_ = nullptr;
	std::size_t size_ = 0;
};

} /* namespace invlock */

#if defined(__cpp_lib_span)
/* A span does not own its memory, which may be used after the span is gone. For std::span. */
template <typename T>
inline constexpr bool std::ranges::enable_borrowed_range<invlock::span<T>> = true;
#endif

#endif /* INVLOCK_SPAN_HPP */
