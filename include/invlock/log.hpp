/* SPDX-License-Identifier: MIT */
/* The log, from C++: <invlock/invlock.hpp> includes this. Since: 0.1 */
#ifndef INVLOCK_LOG_HPP
#define INVLOCK_LOG_HPP

#include <cerrno>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include <invlock/log.h>

namespace invlock {

namespace detail {

template <typename F>
void c_log(void *log, invlock_log_event event, const char *text) noexcept
{
	(*static_cast<F *>(log))(event, text);
}

} /* namespace detail */

/*
 * Chooses what is told of events that are no errors: see invlock_log_set(). @log is called with an
 * invlock_log_event and a const char *, on any thread and on several at once. It must not throw:
 * that ends the program. nullptr: nobody is told. Return: 0; -ENOMEM
 */
template <typename F>
int log_set(F &&log)
{
	using function = std::decay_t<F>;
	auto *kept = new (std::nothrow) function(std::forward<F>(log));
	int err = kept ? invlock_log_set(detail::c_log<function>, kept) : -ENOMEM;

	if (err)
		delete kept;
	return err;
}
inline int log_set(std::nullptr_t)
{
	return invlock_log_set(nullptr, nullptr);
}

} /* namespace invlock */

#endif /* INVLOCK_LOG_HPP */
