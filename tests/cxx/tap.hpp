/* SPDX-License-Identifier: MIT */
/* Tests in C++, which cmocka's longjmp() would leave without running destructors. */
#ifndef INVLOCK_TESTS_CXX_TAP_HPP
#define INVLOCK_TESTS_CXX_TAP_HPP

#include <cstdio>
#include <cstdlib>
#include <vector>

struct cxx_test {
	const char *name;
	void (*run)();
};

inline std::vector<cxx_test> &cxx_tests()
{
	static std::vector<cxx_test> tests;
	return tests;
}

inline bool cxx_failed;

#define TEST(name)							\
static void name();							\
[[maybe_unused]] static const bool name##_added =			\
	(cxx_tests().push_back({ #name, name }), true);			\
static void name()

/* without exceptions there is no other way to leave a test */
#define CHECK(condition)						\
do {									\
	if (!(condition)) {						\
		std::printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition); \
		cxx_failed = true;					\
		return;							\
	}								\
} while (0)

int main()
{
	unsigned int nr = 0;
	bool failed = false;

	/* a forked child must find nothing to write a second time */
	std::setvbuf(stdout, nullptr, _IOLBF, 0);
	std::printf("1..%zu\n", cxx_tests().size());
	for (const cxx_test &test : cxx_tests()) {
		cxx_failed = false;
		test.run();
		std::printf("%sok %u - %s\n", cxx_failed ? "not " : "", ++nr, test.name);
		failed = failed || cxx_failed;
	}
	return failed;
}

#endif /* INVLOCK_TESTS_CXX_TAP_HPP */
