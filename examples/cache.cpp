// SPDX-License-Identifier: MIT
/* The example of cache.c in C++: a device that copies memory when it is registered. */
#include <invlock/invlock.hpp>

#include <cstring>
#include <iostream>
#include <string>
#include <sys/mman.h>

/* makes a copy, and reads from that copy: a registration that is stale would show */
struct copying_device {
	std::uint64_t add(invlock::span<std::byte> memory) const
	{
		auto *copy = new std::byte[memory.size()];	/* if it throws, get() throws */

		std::memcpy(copy, memory.data(), memory.size());
		return reinterpret_cast<std::uint64_t>(copy);
	}
	void remove(std::uint64_t handle) const { delete[] reinterpret_cast<std::byte *>(handle); }
	std::string read(std::uint64_t handle) const { return reinterpret_cast<char *>(handle); }
};

int main()
try {
	const copying_device device;
	invlock::mm_options watch;
	invlock::cache_options options;

	/* name what can happen to this program's memory; 0 asks for everything there is */
	watch.need = options.need = INVLOCK_BIT(DISCARD);
	invlock::mm mm = invlock::mm::open(watch);
	invlock::cache cache(mm,
		[&](invlock::span<std::byte> memory) { return device.add(memory); },
		[&](invlock::span<std::byte>, std::uint64_t handle) { device.remove(handle); },
		options);
	invlock::span<char> buf(static_cast<char *>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
							 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), 4096);

	for (const char *text : { "old", "new" }) {
		madvise(buf.data(), buf.size(), MADV_DONTNEED);
		std::strcpy(buf.data(), text);
		for (int i = 0; i < 2; i++) {
			invlock::pin pin = cache.get(buf);	/* put at the end of this scope */

			std::cout << "memory " << buf.data() << ", device "
				  << device.read(pin.handle()) << "\n";
		}
	}
	return 0;
} catch (const invlock::error &e) {
	std::cerr << e.what() << "\n";
	return 1;
}
