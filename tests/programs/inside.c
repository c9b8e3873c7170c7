// SPDX-License-Identifier: MIT
/*
 * inside PROGRAM ARGUMENT... - run a static program beside the checker
 *
 * Nothing can be preloaded into a program without a dynamic linker. So this program, which contains
 * the checker, does what exec would do in its own address space: it maps the other program, builds
 * its stack, and jumps to its entry. From there on the main thread belongs to that program, and the
 * checker's thread continues.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checker.h"
#include "tests/arch.h"

#define STACK_BYTES	(8UL << 20)
#define MAX_AUX		64

struct image {
	unsigned long base;	/* added to the file's addresses */
	unsigned long entry;
	unsigned long phdr;
	unsigned int phnum;
};

static void die(const char *what)
{
	perror(what);
	exit(99);
}

static int prot_of(const Elf64_Phdr *ph)
{
	return (ph->p_flags & PF_R ? PROT_READ : 0) | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
	       (ph->p_flags & PF_X ? PROT_EXEC : 0);
}

static void map_segment(int fd, const Elf64_Phdr *ph, unsigned long base)
{
	unsigned long start = (base + ph->p_vaddr) & -PAGE;
	unsigned long data_end = base + ph->p_vaddr + ph->p_filesz;
	unsigned long file_end = (data_end + PAGE - 1) & -PAGE;
	unsigned long end = (base + ph->p_vaddr + ph->p_memsz + PAGE - 1) & -PAGE;
	off_t offset = (off_t)(ph->p_offset & -PAGE);

	if (mmap((void *)start, file_end - start, prot_of(ph), MAP_PRIVATE | MAP_FIXED, fd,
		 offset) == MAP_FAILED)
		die("cannot map the program");
	if (ph->p_memsz == ph->p_filesz)
		return;
	memset((void *)data_end, 0, file_end - data_end);
	if (end > file_end && mmap((void *)file_end, end - file_end, prot_of(ph), MAP_PRIVATE |
				   MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		die("cannot map the program's bss");
}

static struct image load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned long lowest = ~0UL, highest = 0;
	Elf64_Phdr ph[32];
	struct image image = {};
	Elf64_Ehdr eh;

	if (fd < 0 || pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) || eh.e_phnum > 32 ||
	    pread(fd, ph, eh.e_phnum * sizeof(*ph), (off_t)eh.e_phoff) < 0)
		die(path);
	for (unsigned int i = 0; i < eh.e_phnum; i++) {
		if (ph[i].p_type == PT_INTERP) {
			fprintf(stderr, "%s is not static: preload the checker\n", path);
			exit(99);
		}
		if (ph[i].p_type != PT_LOAD)
			continue;
		lowest = ph[i].p_vaddr < lowest ? ph[i].p_vaddr : lowest;
		if (ph[i].p_vaddr + ph[i].p_memsz > highest)
			highest = ph[i].p_vaddr + ph[i].p_memsz;
		if (ph[i].p_offset <= eh.e_phoff && eh.e_phoff < ph[i].p_offset + ph[i].p_filesz)
			image.phdr = ph[i].p_vaddr + eh.e_phoff - ph[i].p_offset;
	}
	if (eh.e_type == ET_DYN) {
		void *room = mmap(NULL, highest, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (room == MAP_FAILED)
			die("no room for the program");
		image.base = (unsigned long)room;
	} else if (mmap((void *)(lowest & -PAGE), highest - (lowest & -PAGE), PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED) {
		die("the program's addresses are taken");
	}
	for (unsigned int i = 0; i < eh.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD)
			map_segment(fd, &ph[i], image.base);
	close(fd);
	image.entry = image.base + eh.e_entry;
	image.phdr += image.base;
	image.phnum = eh.e_phnum;
	return image;
}

/*
 * Copies our auxiliary vector, changed to describe the mapped program. Return: the number of words
 */
static unsigned int auxiliary(const struct image *image, const char *path, uint64_t *aux)
{
	int fd = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
	ssize_t bytes = fd < 0 ? -1 : read(fd, aux, MAX_AUX * sizeof(*aux));
	unsigned int nr = (unsigned int)bytes / sizeof(*aux);

	if (bytes <= 0)
		die("/proc/self/auxv");
	close(fd);
	for (unsigned int i = 0; i < nr; i += 2) {
		switch (aux[i]) {
		case AT_PHDR:
			aux[i + 1] = image->phdr;
			break;
		case AT_PHNUM:
			aux[i + 1] = image->phnum;
			break;
		case AT_ENTRY:
			aux[i + 1] = image->entry;
			break;
		case AT_BASE:
			aux[i + 1] = 0;
			break;
		case AT_EXECFN:
			aux[i + 1] = (unsigned long)path;
			break;
		}
	}
	return nr;
}

/* Builds what a program finds on its stack: argc, argv, the environment, the auxiliary vector. */
static uint64_t *build_stack(const struct image *image, char **argv, char **env)
{
	uint64_t aux[MAX_AUX], *top, *at;
	unsigned int nr_aux = auxiliary(image, argv[0], aux), nr_args = 0, nr_env = 0;
	char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (stack == MAP_FAILED)
		die("no stack");
	while (argv[nr_args])
		nr_args++;
	while (env[nr_env])
		nr_env++;
	top = (uint64_t *)(stack + STACK_BYTES) - 2;
	/* the stack must be aligned to 16 bytes; the strings stay where they are */
	at = (uint64_t *)((uintptr_t)(top - (1 + nr_args + 1 + nr_env + 1 + nr_aux)) & -16UL);
	top = at;
	*at++ = nr_args;
	memcpy(at, argv, (nr_args + 1) * sizeof(*at));
	at += nr_args + 1;
	memcpy(at, env, (nr_env + 1) * sizeof(*at));
	at += nr_env + 1;
	memcpy(at, aux, nr_aux * sizeof(*at));
	return top;
}

int main(int argc, char **argv, char **env)
{
	struct image image;

	if (argc < 2) {
		fprintf(stderr, "usage: inside PROGRAM ARGUMENT...\n");
		return 99;
	}
	image = load(argv[1]);
	begin_program((void *)image.entry, build_stack(&image, argv + 1, env));
}
