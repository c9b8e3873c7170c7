// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's last word: QEMU's isa-debug-exit device ends it with (value << 1) | 1. A module,
 * since a program may not be able to: some kernels have neither iopl() nor /dev/port.
 */
#include <linux/io.h>
#include <linux/module.h>

static unsigned char code = 1;
module_param(code, byte, 0);
MODULE_PARM_DESC(code, "0 makes QEMU return 33, 1 makes it return 35");

static int __init vm_exit_init(void)
{
	outb(16 + code, 0xf4);
	return -EIO;
}

module_init(vm_exit_init);

MODULE_DESCRIPTION("ends the virtual machine");
MODULE_LICENSE("GPL");
