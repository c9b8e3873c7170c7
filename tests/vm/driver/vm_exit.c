// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ends the guest: QEMU's isa-debug-exit device makes QEMU exit with (value << 1) | 1. This is a
 * module because some kernels give a program neither iopl() nor /dev/port.
 */
#include <linux/io.h>
#include <linux/module.h>

static unsigned char code = 1;
module_param(code, byte, 0);
MODULE_PARM_DESC(code, "0 makes QEMU exit with 33, 1 makes it exit with 35");

static int __init vm_exit_init(void)
{
	outb(16 + code, 0xf4);
	return -EIO;
}

module_init(vm_exit_init);

MODULE_DESCRIPTION("Ends the virtual machine");
MODULE_LICENSE("GPL");
