/* SPDX-License-Identifier: MIT */
/*
 * invlock for C++17 and newer: the C interface with owners that clean up. Header only.
 *
 *	invlock::mm mm = invlock::mm::open();
 *	invlock::cache cache(mm,
 *		[&](invlock::span<std::byte> memory) {
 *			return device.add(memory.data(), memory.size());
 *		},
 *		[&](invlock::span<std::byte>, std::uint64_t handle) { device.remove(handle); });
 *	std::vector<char> buf(1 << 20);
 *
 *	invlock::pin pin = cache.get(buf);
 *	device.transfer(pin.handle(), buf.data(), buf.size());
 *						the pin is put at the end of its scope
 *
 * Errors, by choice. A call that makes or returns an object has two forms: get() throws, try_get()
 * returns a result, which is the value or a failure. The other calls return what they return in C.
 * What is thrown is an invlock::error, which is a std::system_error with the sentence of struct
 * invlock_why in what(). Compiled without exceptions, the header has the second form alone.
 *
 * Exceptions out of reg(). They do not pass through the library, which is C. The cache catches
 * what reg() throws, keeps nothing, and gives it to the call that made reg() run: get() throws
 * the same exception again, and a failure of try_get() carries it as its cause. std::bad_alloc
 * counts as -ENOMEM: the cache makes room, and calls reg() once more. dereg() must not throw: that
 * ends the program (std::terminate), as an exception out of a destructor does.
 *
 * Lifetime. An mm, a cache and a pin can be moved, but not copied. A section and a change can be
 * neither. A pin, a section or a change does not outlive what it was made of; a cache may outlive
 * its mm. To destroy a cache while one of its pins is held, or in one of its own functions, ends the
 * program; close() returns an error.
 * A function of the log is kept until the program ends.
 *
 * Threads, fork, ordering, and what a result means: see the C header of each object.
 * Since: 0.1
 */
#ifndef INVLOCK_INVLOCK_HPP
#define INVLOCK_INVLOCK_HPP

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include <invlock/cache.h>
#include <invlock/log.hpp>
#include <invlock/manual.h>
#include <invlock/mm.h>
#include <invlock/section.h>
#include <invlock/span.hpp>
#include <invlock/version.h>

#if defined(__cpp_exceptions)
#define INVLOCK_EXCEPTIONS 1
#else
#define INVLOCK_EXCEPTIONS 0
#endif

namespace invlock {

/* In C a struct and a function can share a name. These are the structs. */
using mm_info = struct ::invlock_mm_info;
using cache_stats = struct ::invlock_cache_stats;

/* Memory, as the calls below take it: an address and a length, or anything contiguous. */
class range {
public:
	range(const void *addr, std::size_t len) noexcept : addr_(addr), len_(len) {}

	/* a vector, an array, a string, a span: what std::data() and std::size() know */
	template <typename C, typename T = std::remove_pointer_t<decltype(std::data(
				      std::declval<const C &>()))>,
		  typename = decltype(std::size(std::declval<const C &>())),
		  typename = std::enable_if_t<std::is_trivially_copyable_v<T> &&
					      !std::is_same_v<std::decay_t<C>, range>>>
	range(const C &memory) noexcept
		: addr_(std::data(memory)), len_(std::size(memory) * sizeof(T)) {}

	const void *data() const noexcept { return addr_; }
	std::size_t size() const noexcept { return len_; }

private:
	const void *addr_;
	std::size_t len_;
};

/* Why a call failed. */
struct failure {
	int code = 0;			/* an errno: positive, as std::errc has it */
	std::string text;		/* a sentence; may be empty */
	std::exception_ptr cause;	/* what reg() threw; may be empty */

	std::error_code error_code() const { return { code, std::generic_category() }; }
};

#if INVLOCK_EXCEPTIONS
class error : public std::system_error {
public:
	explicit error(const failure &f) : std::system_error(f.error_code(), f.text) {}
};
#endif

namespace detail {

[[noreturn]] inline void die(const char *what)
{
	std::fprintf(stderr, "invlock: %s\n", what);
	std::terminate();
}

[[noreturn]] inline void raise(const failure &f)
{
#if INVLOCK_EXCEPTIONS
	if (f.cause)
		std::rethrow_exception(f.cause);
	throw error(f);
#else
	die(f.text.empty() ? "the value of a failed result was asked for" : f.text.c_str());
#endif
}

inline failure failed(int err, const char *what)
{
	return { -err, what, nullptr };
}

} /* namespace detail */

/* A value, or why there is none. */
template <typename T>
class [[nodiscard]] result {
public:
	result(T value) : is_(std::in_place_index<0>, std::move(value)) {}
	result(failure f) : is_(std::in_place_index<1>, std::move(f)) {}

	explicit operator bool() const noexcept { return !is_.index(); }
	bool has_value() const noexcept { return !is_.index(); }

	/* only if it has a value */
	T &operator*() & noexcept { return *std::get_if<0>(&is_); }
	T &&operator*() && noexcept { return std::move(*std::get_if<0>(&is_)); }
	T *operator->() noexcept { return std::get_if<0>(&is_); }

	/* only if it has none */
	const failure &error() const noexcept { return *std::get_if<1>(&is_); }

	/* throws if it has none; without exceptions it ends the program */
	T &value() &
	{
		check();
		return **this;
	}
	T value() &&
	{
		check();
		return std::move(**this);
	}

private:
	void check() const
	{
		if (is_.index())
			detail::raise(error());
	}

	std::variant<T, failure> is_;
};

/* As struct invlock_mm_options. */
struct mm_options {
	const char *monitor = nullptr;
	std::uint64_t need = 0;
	bool selftest = true;
};

/* The address space of this process: a reference, see <invlock/mm.h>. */
class mm {
public:
	static result<mm> try_open(const mm_options &options = {})
	{
		invlock_mm_options o{};
		invlock_mm *opened;
		invlock_why why;

		o.size = sizeof(o);
		o.flags = options.selftest ? 0 : INVLOCK_MM_NO_SELFTEST;
		o.monitor = options.monitor;
		o.need = options.need;
		int err = invlock_mm_open(&o, &opened, &why);
		if (err)
			return detail::failed(err, why.text);
		return mm(opened);
	}

	/* takes over a reference of the C interface */
	explicit mm(invlock_mm *opened) noexcept : mm_(opened) {}

	invlock_mm *get() const noexcept { return mm_.get(); }
	bool alive() const noexcept { return invlock_mm_alive(get()); }

	result<mm_info> try_info() const
	{
		mm_info info{};

		info.size = sizeof(info);
		int err = invlock_mm_info(get(), &info);
		if (err)
			return detail::failed(err, "this mm cannot be asked");
		return info;
	}

	/* Would this memory be watched? A failure without a code says that it would. */
	failure explain(const range &memory) const
	{
		invlock_why why;
		int err = invlock_mm_explain(get(), memory.data(), memory.size(), &why);

		return detail::failed(err, why.text);
	}

#if INVLOCK_EXCEPTIONS
	static mm open(const mm_options &options = {}) { return try_open(options).value(); }
	mm_info info() const { return try_info().value(); }
#endif

private:
	struct closer {
		void operator()(invlock_mm *opened) const noexcept { invlock_mm_close(opened); }
	};
	std::unique_ptr<invlock_mm, closer> mm_;
};

/* A registration in use: see struct invlock_pin. */
class pin {
public:
	pin() noexcept = default;
	explicit pin(const invlock_pin &held) noexcept : pin_(held) {}
	pin(pin &&other) noexcept : pin_(std::exchange(other.pin_, invlock_pin{})) {}
	pin &operator=(pin &&other) noexcept
	{
		if (this != &other) {
			put();
			pin_ = std::exchange(other.pin_, invlock_pin{});
		}
		return *this;
	}
	~pin() { put(); }

	explicit operator bool() const noexcept { return pin_.cache; }
	std::uint64_t handle() const noexcept { return pin_.handle; }
	/* what is registered: whole pages, which cover what was asked for */
	span<std::byte> bytes() const noexcept
	{
		return { static_cast<std::byte *>(pin_.addr), pin_.len };
	}

	/* the device is done; the pin is empty afterwards */
	void put() noexcept
	{
		if (pin_.cache)
			invlock_cache_put(&pin_);
		pin_ = invlock_pin{};
	}

private:
	invlock_pin pin_{};
};

/* What the device does with the memory: see INVLOCK_GET_READ. */
enum class access { read_write, read };

/*
 * As struct invlock_cache_options, without the functions. With a reaper, which is the default,
 * dereg is also called on a thread of the library.
 */
struct cache_options {
	bool reaper = true;
	std::uint64_t need = 0;
	unsigned int max_entries = 0;
	std::uint64_t max_bytes = 0;
	std::size_t granule = 0;
	unsigned int rounds = 0;
	std::uint64_t time_ns = 0;
	unsigned int reap_ms = 0;
	std::uint64_t max_merged = 0;
};

namespace detail {

/* What reg() threw, for the get of this thread that made it run. Gets can nest. */
struct thrown {
	std::exception_ptr what;
	thrown *outer;

	static thrown *&innermost() noexcept
	{
		static thread_local thrown *t = nullptr;
		return t;
	}
	thrown() noexcept : outer(std::exchange(innermost(), this)) {}
	~thrown() { innermost() = outer; }
	thrown(const thrown &) = delete;
	thrown &operator=(const thrown &) = delete;
};

#if INVLOCK_EXCEPTIONS
/* The errno of the exception that is being handled. */
inline int errno_of_exception() noexcept
{
	try {
		throw;
	} catch (const std::bad_alloc &) {
		return ENOMEM;
	} catch (const std::system_error &e) {
		if (e.code().category() == std::generic_category() && e.code().value() > 0)
			return e.code().value();
	} catch (...) {
	}
	return ECANCELED;
}
#endif

/* The program's two functions, and what the C interface calls. No exception leaves either. */
template <typename Reg, typename Dereg>
struct registrar {
	Reg reg;
	Dereg dereg;

	static constexpr bool knows_access = std::is_invocable_v<Reg &, span<std::byte>, access>;
	static constexpr bool knows_key = !knows_access &&
		std::is_invocable_v<Reg &, span<std::byte>, std::uint64_t>;

	template <typename For>		/* an access or a key */
	auto make(span<std::byte> memory, [[maybe_unused]] For what)
	{
		if constexpr (knows_access || knows_key)
			return reg(memory, what);
		else
			return reg(memory);
	}

	template <typename For>
	int call(void *addr, std::size_t len, For what, std::uint64_t *ret_handle)
	{
		auto made = make({ static_cast<std::byte *>(addr), len }, what);

		if constexpr (std::is_same_v<decltype(made), result<std::uint64_t>>) {
			if (!made) {
				blame(made.error().cause);
				return made.error().code > 0 ? -made.error().code : -EINVAL;
			}
			*ret_handle = *made;
		} else {
			*ret_handle = made;
		}
		blame(nullptr);
		return 0;
	}

	static void blame(std::exception_ptr what) noexcept
	{
		if (thrown::innermost())
			thrown::innermost()->what = std::move(what);
	}

	template <access how>
	static int c_reg(void *ctx, void *addr, std::size_t len,
			 std::uint64_t *ret_handle) noexcept
	{
		return c_reg_key(ctx, addr, len, how, ret_handle);
	}

	template <typename For>
	static int c_reg_key(void *ctx, void *addr, std::size_t len, For what,
			     std::uint64_t *ret_handle) noexcept
	{
		auto *r = static_cast<registrar *>(ctx);
#if INVLOCK_EXCEPTIONS
		try {
			return r->call(addr, len, what, ret_handle);
		} catch (...) {
			blame(std::current_exception());
			return -errno_of_exception();
		}
#else
		return r->call(addr, len, what, ret_handle);
#endif
	}

	static void c_dereg(void *ctx, void *addr, std::size_t len, std::uint64_t handle) noexcept
	{
		static_cast<registrar *>(ctx)->dereg(
			span<std::byte>(static_cast<std::byte *>(addr), len), handle);
	}
};

} /* namespace detail */

/* A cache of registrations: see <invlock/cache.h>. */
class cache {
public:
	/*
	 * reg takes a span<std::byte> of whole pages, and returns a handle, or a
	 * result<std::uint64_t>. If it also takes an access, it is called with access::read for a
	 * get with INVLOCK_GET_READ. If it takes a std::uint64_t instead, it is called with the key
	 * of a get_key(), and there is no other get. dereg takes the same span and the handle. Both
	 * are moved into the cache, and may be called on any thread.
	 */
	template <typename Reg, typename Dereg>
	static result<cache> try_open(const mm &mm, Reg reg, Dereg dereg,
				      const cache_options &options = {})
	{
		using registrar = detail::registrar<Reg, Dereg>;
		auto state = std::make_unique<registrar>(
			registrar{ std::move(reg), std::move(dereg) });
		invlock_cache_options o{};
		invlock_cache *opened;
		invlock_why why;

		o.size = sizeof(o);
		o.flags = options.reaper ? INVLOCK_CACHE_REAPER : INVLOCK_CACHE_NO_REAPER;
		o.ops.dereg = registrar::c_dereg;
		if constexpr (registrar::knows_key)
			o.reg_key = registrar::template c_reg_key<std::uint64_t>;
		else
			o.ops.reg = registrar::template c_reg<access::read_write>;
		if constexpr (registrar::knows_access)
			o.reg_read = registrar::template c_reg<access::read>;
		o.ctx = state.get();
		o.need = options.need;
		o.max_entries = options.max_entries;
		o.max_bytes = options.max_bytes;
		o.granule = options.granule;
		o.rounds = options.rounds;
		o.time_ns = options.time_ns;
		o.reap_ms = options.reap_ms;
		o.max_merged = options.max_merged;
		int err = invlock_cache_open(mm.get(), &o, &opened, &why);
		if (err)
			return detail::failed(err, why.text);
		return cache(opened, { state.release(), [](void *r) {
			delete static_cast<registrar *>(r);
		} });
	}

	cache(cache &&) noexcept = default;
	cache &operator=(cache &&other) noexcept
	{
		if (this != &other) {
			cache old(std::move(*this));

			cache_ = std::move(other.cache_);
			state_ = std::move(other.state_);
		}
		return *this;
	}

	invlock_cache *get() const noexcept { return cache_.get(); }

	/* flags: INVLOCK_GET_* */
	result<pin> try_get(const range &memory, unsigned int flags = 0)
	{
		detail::thrown thrown;
		invlock_pin held;

		return pinned(invlock_cache_get(get(), memory.data(), memory.size(), flags, &held),
			      held, thrown);
	}
	result<pin> try_get_key(const range &memory, std::uint64_t key, unsigned int flags = 0)
	{
		detail::thrown thrown;
		invlock_pin held;

		return pinned(invlock_cache_get_key(get(), memory.data(), memory.size(), flags, key,
						    &held), held, thrown);
	}

	/*
	 * -EBUSY while a pin is held, -EDEADLK in one of its own functions: then the cache goes on.
	 * Otherwise it is empty afterwards.
	 */
	int close() noexcept
	{
		int err = invlock_cache_close(get());

		if (!err) {
			cache_.release();
			state_.reset();
		}
		return err;
	}

	/* these return what the functions of <invlock/cache.h> do: a number, or -errno */
	int drop(const range &memory)
	{
		return invlock_cache_drop(get(), memory.data(), memory.size());
	}
	int reap() { return invlock_cache_reap(get()); }
	int fd() const noexcept { return invlock_cache_fd(get()); }

	result<cache_stats> try_stats() const
	{
		cache_stats stats{};

		stats.size = sizeof(stats);
		int err = invlock_cache_stats(get(), &stats);
		if (err)
			return detail::failed(err, "this cache cannot be asked");
		return stats;
	}

#if INVLOCK_EXCEPTIONS
	template <typename Reg, typename Dereg>
	cache(const mm &mm, Reg reg, Dereg dereg, const cache_options &options = {})
		: cache(try_open(mm, std::move(reg), std::move(dereg), options).value()) {}

	pin get(const range &memory, unsigned int flags = 0)
	{
		return try_get(memory, flags).value();
	}
	pin get_key(const range &memory, std::uint64_t key, unsigned int flags = 0)
	{
		return try_get_key(memory, key, flags).value();
	}
	cache_stats stats() const { return try_stats().value(); }
#endif

private:
	struct closer {
		void operator()(invlock_cache *opened) const noexcept
		{
			if (invlock_cache_close(opened))
				detail::die("a cache is destroyed while a pin of it is held, or "
					    "by one of its own functions");
		}
	};
	using state = std::unique_ptr<void, void (*)(void *)>;

	static result<pin> pinned(int err, const invlock_pin &held, const detail::thrown &thrown)
	{
		if (err)
			return failure{ -err, "this memory is not cached", thrown.what };
		return pin(held);
	}

	cache(invlock_cache *opened, state s) noexcept : state_(std::move(s)), cache_(opened) {}

	state state_;	/* destroyed after cache_, whose close still calls dereg() */
	std::unique_ptr<invlock_cache, closer> cache_;
};

/* This moment, for section::commit_since(). */
class moment {
public:
	explicit moment(const mm &mm) noexcept { invlock_moment_take(&moment_, mm.get()); }

private:
	friend class section;
	invlock_moment moment_;
};

/*
 * A read section: see <invlock/section.h>.
 *
 *	invlock::section section(mm, buf);
 *	while (section.attempt()) {
 *		translate();
 *		if (section.commit())
 *			break;
 *		undo();
 *	}
 *	section.check();			throws unless it was committed
 */
class section {
public:
	section(const mm &mm, const range &memory, unsigned int flags = 0,
		const invlock_read_budget *budget = nullptr) noexcept
	{
		invlock_read_init(&read_, mm.get(), memory.data(), memory.size(), budget, flags);
	}
	~section() { invlock_read_end(&read_); }
	section(const section &) = delete;
	section &operator=(const section &) = delete;

	bool attempt() { return invlock_read_attempt(&read_); }
	[[nodiscard]] bool commit() { return invlock_read_commit(&read_); }
	/* instead of the loop, for a translation that was begun after the moment */
	[[nodiscard]] bool commit_since(const moment &before)
	{
		return invlock_read_commit_since(&read_, &before.moment_);
	}
	[[nodiscard]] bool valid() { return invlock_read_valid(&read_); }
	/* 0, or -errno */
	int error() const noexcept { return invlock_read_error(&read_); }

#if INVLOCK_EXCEPTIONS
	void check() const
	{
		if (error())
			throw invlock::error(detail::failed(error(), "this memory is not translated"));
	}
#endif

private:
	invlock_read read_;
};

/* A change that the program reports, from here to the end of the scope: <invlock/manual.h>. */
class change {
public:
	change(const mm &mm, const range &memory) noexcept : mm_(mm.get()), memory_(memory)
	{
		error_ = invlock_manual_start(mm_, memory_.data(), memory_.size());
	}
	~change()
	{
		if (!error_)
			invlock_manual_end(mm_, memory_.data(), memory_.size());
	}
	change(const change &) = delete;
	change &operator=(const change &) = delete;

	/* 0, or -errno: then nothing is reported */
	int error() const noexcept { return error_; }

private:
	invlock_mm *mm_;
	range memory_;
	int error_;
};

} /* namespace invlock */

#endif /* INVLOCK_INVLOCK_HPP */
