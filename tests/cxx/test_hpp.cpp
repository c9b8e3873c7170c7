// SPDX-License-Identifier: MIT
/* invlock.hpp: owners, spans, results, and what becomes of an exception. */
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>
#if __has_include(<span>)
#include <span>
#endif
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <invlock/invlock.hpp>

#include "tap.hpp"

namespace {

constexpr std::size_t PAGE = 4096;

/* a device that knows what is registered */
struct device {
	std::map<std::uint64_t, std::size_t> registered;
	std::uint64_t last = 0;
	unsigned int nr_reg = 0, nr_dereg = 0;

	std::uint64_t add(invlock::span<std::byte> memory)
	{
		nr_reg++;
		registered[++last] = memory.size();
		return last;
	}
	void remove(std::uint64_t handle)
	{
		nr_dereg++;
		registered.erase(handle);
	}
};

/* pages of its own, so that no other buffer lies on them */
struct pages {
	explicit pages(std::size_t nr)
		: bytes(static_cast<std::byte *>(mmap(nullptr, nr * PAGE, PROT_READ | PROT_WRITE,
						      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
			nr * PAGE) {}
	~pages() { munmap(bytes.data(), bytes.size()); }

	invlock::span<std::byte> bytes;
};

invlock::mm_options manual()
{
	invlock::mm_options options;

	options.monitor = "manual";
	return options;
}

invlock::mm open_manual()
{
	return std::move(*invlock::mm::try_open(manual()));
}

auto reg_at(device &d)
{
	return [&d](invlock::span<std::byte> memory) { return d.add(memory); };
}

auto dereg_at(device &d)
{
	return [&d](invlock::span<std::byte>, std::uint64_t handle) { d.remove(handle); };
}

/* the books of the device are for one thread */
invlock::cache_options no_reaper()
{
	invlock::cache_options options;

	options.reaper = false;
	return options;
}

invlock::cache open_cache(const invlock::mm &mm, device &d)
{
	return std::move(*invlock::cache::try_open(mm, reg_at(d), dereg_at(d), no_reaper()));
}

/* does this end by std::terminate()? */
template <typename F>
bool terminates(F f)
{
	pid_t child = fork();
	int status = 0;

	if (!child) {
		/* no core, and no message among the results */
		std::set_terminate([] { _exit(86); });
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		f();
		_exit(0);
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 86;
}

} /* namespace */

TEST(an_mm_is_moved_and_closed_once)
{
	invlock::mm mm = open_manual();
	invlock::mm other = std::move(mm);

	CHECK(!mm.get());
	CHECK(other.alive());
	CHECK(other.try_info()->monitor == std::string("manual"));
	CHECK(!mm.alive());
	CHECK(mm.try_info().error().code == EINVAL);
}

TEST(a_failure_has_the_code_and_the_sentence)
{
	invlock::mm_options options;

	options.monitor = "crystal-ball";
	auto opened = invlock::mm::try_open(options);
	CHECK(!opened);
	CHECK(opened.error().code == EINVAL);
	CHECK(opened.error().text.find("crystal-ball") != std::string::npos);
	CHECK(opened.error().error_code() == std::errc::invalid_argument);
}

TEST(a_hit_is_the_same_registration_and_a_change_makes_another)
{
	device d;
	pages p(2);
	invlock::mm mm = open_manual();
	invlock::cache cache = open_cache(mm, d);

	{
		auto first = cache.try_get(p.bytes), second = cache.try_get(p.bytes);

		CHECK(first && second);
		CHECK(first->handle() == second->handle());
		CHECK(first->bytes().data() == p.bytes.data());
		CHECK(first->bytes().size() == 2 * PAGE);
	}
	CHECK(d.nr_reg == 1);
	{
		invlock::change change(mm, p.bytes);

		CHECK(!change.error());
	}
	CHECK(cache.try_get(p.bytes)->handle() == 2);
	CHECK(d.nr_reg == 2);
	CHECK(cache.try_stats()->stale == 1);
}

TEST(a_pin_is_put_at_the_end_of_its_scope_by_a_move_or_by_hand)
{
	device d;
	pages p(1), q(1);
	invlock::mm mm = open_manual();
	invlock::cache cache = open_cache(mm, d);
	invlock::pin held;

	CHECK(!held);
	{
		invlock::pin pin = *cache.try_get(p.bytes);

		CHECK(cache.close() == -EBUSY);
		held = std::move(pin);
		CHECK(!pin);
		CHECK(cache.close() == -EBUSY);
	}
	held = *cache.try_get(q.bytes);		/* puts the first */
	CHECK(cache.drop(p.bytes) == 1);
	CHECK(d.nr_dereg == 1);
	held.put();
	held.put();
	CHECK(cache.close() == 0);
	CHECK(!cache.get());
	CHECK(d.registered.empty());
}

TEST(a_cache_deregisters_all_when_it_goes_and_outlives_its_mm)
{
	device d;
	pages p(1);

	{
		invlock::mm mm = open_manual();
		invlock::cache cache = open_cache(mm, d);

		mm = open_manual();
		CHECK(cache.try_get(p.bytes));
		cache = open_cache(mm, d);
		CHECK(d.nr_dereg == 1);
		CHECK(cache.try_get(p.bytes));
	}
	CHECK(d.registered.empty());
	CHECK(d.nr_reg == 2);
}

TEST(a_cache_that_is_destroyed_with_a_pin_held_ends_the_program)
{
	CHECK(terminates([] {
		device d;
		pages p(1);
		invlock::mm mm = open_manual();
		invlock::pin pin;
		invlock::cache cache = open_cache(mm, d);

		pin = *cache.try_get(p.bytes);
	}));
}

TEST(memory_is_anything_contiguous)
{
	device d;
	invlock::mm mm = open_manual();
	invlock::cache cache = open_cache(mm, d);
	std::vector<int> vector(3 * PAGE);
	std::array<double, 100> array{};
	const std::string string(PAGE, 'x');
	char bytes[100] = "";

	auto covers = [&](const void *addr, std::size_t len, const invlock::range &memory) {
		auto pin = cache.try_get(memory);
		auto *first = static_cast<const std::byte *>(addr);

		return memory.data() == addr && memory.size() == len && pin &&
		       pin->bytes().begin() <= first && first + len <= pin->bytes().end();
	};
	CHECK(covers(vector.data(), 3 * PAGE * sizeof(int), vector));
	CHECK(covers(array.data(), sizeof(array), array));
	CHECK(covers(string.data(), PAGE, string));
	CHECK(covers(bytes, sizeof(bytes), bytes));
	CHECK(covers(bytes + 1, 10, { bytes + 1, 10 }));
#if defined(__cpp_lib_span)
	std::span<int> some(vector.data() + 5, 7);
	CHECK(covers(some.data(), 7 * sizeof(int), some));
	std::span<std::byte> registered = cache.try_get(vector)->bytes();
	CHECK(registered.size() >= 3 * PAGE * sizeof(int));
	invlock::span<std::byte> named(registered.data(), registered.size());
	std::span<const std::byte> same = named;
	CHECK(same.data() == registered.data());
#endif
}

TEST(a_reg_that_knows_of_access_is_told_what_the_device_does)
{
	device d;
	pages p(1);
	invlock::mm mm = open_manual();
	auto cache = std::move(*invlock::cache::try_open(mm,
		[](invlock::span<std::byte>, invlock::access how) {
			return how == invlock::access::read ? 17u : 19u;
		}, dereg_at(d), no_reaper()));

	CHECK(cache.try_get(p.bytes, INVLOCK_GET_READ)->handle() == 17);
	CHECK(cache.try_get(p.bytes)->handle() == 19);
}

TEST(a_thread_of_the_library_calls_dereg_by_default)
{
	pages p(1);
	invlock::mm mm = open_manual();
	std::atomic<bool> gone = false;
	invlock::cache_options options;
	options.reap_ms = 1;
	auto cache = std::move(*invlock::cache::try_open(mm,
		[](invlock::span<std::byte>) { return 1; },
		[&](invlock::span<std::byte>, std::uint64_t) { gone = true; }, options));

	CHECK(cache.try_get(p.bytes));
	{
		invlock::change change(mm, p.bytes);
	}
	while (!gone)
		usleep(100);
	CHECK(cache.close() == 0);
}

TEST(pieces_are_merged_if_the_cache_is_asked_to)
{
	pages p(2);
	invlock::mm mm = open_manual();
	invlock::cache_options options;
	auto half = p.bytes.size() / 2;
	options.max_merged = p.bytes.size();
	auto cache = std::move(*invlock::cache::try_open(mm,
		[](invlock::span<std::byte>) { return 1; },
		[](invlock::span<std::byte>, std::uint64_t) {}, options));

	CHECK(cache.try_get({ p.bytes.data(), half })->bytes().size() == half);
	CHECK(cache.try_get({ p.bytes.data() + half, half })->bytes().size() == 2 * half);
	CHECK(cache.try_stats()->merged == 1);
}

TEST(each_key_has_a_registration_of_its_own)
{
	pages p(1);
	invlock::mm mm = open_manual();
	auto cache = std::move(*invlock::cache::try_open(mm,
		[](invlock::span<std::byte>, std::uint64_t key) { return 100 + key; },
		[](invlock::span<std::byte>, std::uint64_t) {}));

	CHECK(cache.try_get_key(p.bytes, 1)->handle() == 101);
	CHECK(cache.try_get_key(p.bytes, 2)->handle() == 102);
	CHECK(cache.try_get_key(p.bytes, 1)->handle() == 101);
	CHECK(cache.try_stats()->entries == 2);
	/* without a key there is nothing to register with */
	CHECK(cache.try_get(p.bytes).error().code == EINVAL);
}

TEST(reg_can_fail_by_value)
{
	device d;
	pages p(1);
	invlock::mm mm = open_manual();
	auto cache = invlock::cache::try_open(mm,
		[](invlock::span<std::byte>) -> invlock::result<std::uint64_t> {
			return invlock::failure{ ENODEV, "the device is gone", nullptr };
		}, dereg_at(d), no_reaper());

	CHECK(cache);
	auto pin = cache->try_get(p.bytes);
	CHECK(!pin);
	CHECK(pin.error().code == ENODEV);
	CHECK(!d.nr_dereg);
}

TEST(reg_and_dereg_may_be_what_cannot_be_copied)
{
	device d;
	pages p(1);
	invlock::mm mm = open_manual();
	auto owned = std::make_unique<std::uint64_t>(7);
	auto cache = invlock::cache::try_open(mm,
		[owned = std::move(owned)](invlock::span<std::byte>) { return *owned; },
		dereg_at(d), no_reaper());

	CHECK(cache->try_get(p.bytes)->handle() == 7);
}

TEST(a_section_that_collides_goes_round_and_is_stale_after_a_change)
{
	pages p(1);
	invlock::mm mm = open_manual();
	invlock::section section(mm, p.bytes);
	unsigned int rounds = 0;

	while (section.attempt()) {
		if (!rounds++)
			invlock::change collides(mm, p.bytes);
		if (section.commit())
			break;
	}
	CHECK(section.error() == 0);
	CHECK(rounds == 2);
	CHECK(section.valid());
	invlock::change(mm, p.bytes);
	CHECK(!section.valid());
}

TEST(a_translation_since_a_moment_is_committed_unless_its_memory_changed)
{
	pages p(1);
	invlock::mm mm = open_manual();
	invlock::moment before(mm);
	invlock::section section(mm, p.bytes), changed(mm, p.bytes);

	CHECK(section.commit_since(before));
	{
		invlock::change change(mm, p.bytes);
	}
	CHECK(!section.valid());
	CHECK(!changed.commit_since(before));
}

TEST(a_section_of_nothing_says_what_is_wrong)
{
	invlock::mm mm = open_manual();
	invlock::section section(mm, { nullptr, 0 });

	CHECK(!section.attempt());
	CHECK(section.error() == -EINVAL);
}

TEST(a_forked_child_can_let_go_of_what_it_inherited)
{
	device d;
	pages p(1);
	invlock::mm mm = open_manual();
	invlock::cache cache = open_cache(mm, d);
	int status = 0;

	CHECK(cache.try_get(p.bytes));
	pid_t child = fork();
	if (!child) {
		bool dead = cache.try_get(p.bytes).error().code == EOWNERDEAD && !mm.alive();

		_exit(dead && !cache.close() && !d.nr_dereg ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0);
}

TEST(a_log_is_told_what_was_opened_until_another_is_chosen)
{
	std::vector<std::string> told;
	int nr_opened = 0;

	CHECK(!invlock::log_set([&](invlock_log_event event, std::string text) {
		nr_opened += event == INVLOCK_LOG_OPENED;
		told.push_back(text);
	}));
	open_manual();
	CHECK(nr_opened == 1 && told.size() == 1);
	CHECK(told[0].find("manual") != std::string::npos);
	/* an object that is not copied, and one that the program keeps */
	auto owner = std::make_unique<int *>(&nr_opened);
	CHECK(!invlock::log_set([owner = std::move(owner)](invlock_log_event, const char *text) {
		**owner += 10 * !!std::strstr(text, "manual");
	}));
	open_manual();
	CHECK(nr_opened == 11 && told.size() == 1);
	CHECK(!invlock::log_set(nullptr));
	open_manual();
	CHECK(nr_opened == 11 && told.size() == 1);
}

#if INVLOCK_EXCEPTIONS

template <typename E, typename F>
static std::string what_is_thrown(F f)
{
	try {
		f();
	} catch (const E &e) {
		return e.what();
	}
	return "";
}

TEST(an_error_is_thrown_with_its_sentence)
{
	invlock::mm_options options;

	options.monitor = "crystal-ball";
	auto said = what_is_thrown<invlock::error>([&] { invlock::mm::open(options); });
	CHECK(said.find("crystal-ball") != std::string::npos);
	try {
		invlock::mm::open(options);
	} catch (const std::system_error &e) {
		CHECK(e.code() == std::errc::invalid_argument);
		return;
	}
	CHECK(!"nothing was thrown");
}

TEST(what_reg_throws_is_thrown_by_the_get_and_nothing_is_kept)
{
	device d;
	pages p(1);
	invlock::mm mm = invlock::mm::open(manual());
	bool broken = true;
	invlock::cache cache(mm, [&](invlock::span<std::byte> memory) {
		if (broken)
			throw std::out_of_range("no window is free");
		return d.add(memory);
	}, dereg_at(d), no_reaper());

	auto said = what_is_thrown<std::out_of_range>([&] { cache.get(p.bytes); });
	CHECK(said == "no window is free");
	auto tried = cache.try_get(p.bytes);
	CHECK(!tried);
	CHECK(tried.error().code == ECANCELED);
	CHECK(tried.error().cause);
	CHECK(cache.stats().entries == 0);
	CHECK(cache.stats().refused_reg == 2);
	/* the cache goes on, and old exceptions are forgotten */
	broken = false;
	CHECK(cache.get(p.bytes).handle() == 1);
	CHECK(cache.try_get({ nullptr, 0 }).error().code == EINVAL);
	CHECK(!cache.try_get({ nullptr, 0 }).error().cause);
}

TEST(the_errno_of_a_system_error_is_that_of_the_get)
{
	device d;
	pages p(1);
	invlock::mm mm = invlock::mm::open(manual());
	invlock::cache cache(mm, [&](invlock::span<std::byte>) -> std::uint64_t {
		throw std::system_error(EIO, std::generic_category(), "the device");
	}, dereg_at(d), no_reaper());

	CHECK(cache.try_get(p.bytes).error().code == EIO);
}

TEST(bad_alloc_makes_room_and_tries_once_more)
{
	device d;
	pages p(1), q(1);
	invlock::mm mm = invlock::mm::open(manual());
	bool full = false;
	unsigned int calls = 0;
	invlock::cache cache(mm, [&](invlock::span<std::byte> memory) {
		calls++;
		if (full && !d.registered.empty())
			throw std::bad_alloc();
		return d.add(memory);
	}, dereg_at(d), no_reaper());

	CHECK(cache.get(p.bytes));
	full = true;
	auto pin = cache.try_get(q.bytes);
	CHECK(pin);
	CHECK(calls == 3);
	CHECK(d.nr_dereg == 1);
}

TEST(a_get_inside_reg_does_not_take_the_exception_of_another)
{
	device d;
	pages p(1), q(1);
	invlock::mm mm = invlock::mm::open(manual());
	invlock::cache *self = nullptr;
	bool inner_cause = false;
	invlock::cache cache(mm, [&](invlock::span<std::byte> memory) -> std::uint64_t {
		if (memory.data() == q.bytes.data())
			throw std::runtime_error("inner");
		inner_cause = !!self->try_get(q.bytes).error().cause;
		throw std::runtime_error("outer");
	}, dereg_at(d), no_reaper());

	self = &cache;
	CHECK(what_is_thrown<std::runtime_error>([&] { cache.get(p.bytes); }) == "outer");
	CHECK(inner_cause);
}

TEST(a_dereg_that_throws_ends_the_program)
{
	CHECK(terminates([] {
		pages p(1);
		invlock::mm mm = invlock::mm::open(manual());
		invlock::cache cache(mm, [](invlock::span<std::byte>) { return 1; },
				     [](invlock::span<std::byte>, std::uint64_t) {
			throw std::runtime_error("the device does not let go");
		});

		cache.get(p.bytes);
		cache.drop(p.bytes);
	}));
}

TEST(a_log_that_throws_ends_the_program)
{
	CHECK(terminates([] {
		invlock::log_set([](invlock_log_event, const char *) {
			throw std::runtime_error("the disk is full");
		});
		open_manual();
	}));
}

TEST(an_exception_puts_the_pins_on_its_way)
{
	device d;
	pages p(1);
	invlock::mm mm = invlock::mm::open(manual());
	invlock::cache cache(mm, reg_at(d), dereg_at(d), no_reaper());

	CHECK(what_is_thrown<std::runtime_error>([&] {
		invlock::pin pin = cache.get(p.bytes);

		throw std::runtime_error("the transfer failed");
	}) == "the transfer failed");
	CHECK(cache.close() == 0);
}

TEST(a_section_that_fails_throws_when_it_is_checked)
{
	invlock::mm mm = invlock::mm::open(manual());
	invlock::section section(mm, { nullptr, 0 });

	CHECK(!section.attempt());
	CHECK(!what_is_thrown<invlock::error>([&] { section.check(); }).empty());
}

#endif /* INVLOCK_EXCEPTIONS */
