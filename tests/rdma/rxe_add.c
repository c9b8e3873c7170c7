// SPDX-License-Identifier: MIT
/* rxe_add NAME NETDEV: makes a device of Soft RoCE, as "rdma link add NAME type rxe" does. */
#include <linux/netlink.h>
#include <rdma/rdma_netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static union {
	struct nlmsghdr header;
	char bytes[1024];
} message;

static void add(unsigned short type, const char *text)
{
	size_t at = NLMSG_ALIGN(message.header.nlmsg_len), len = strlen(text) + 1;
	struct nlattr attr = { .nla_len = NLA_HDRLEN + len, .nla_type = type };

	memcpy(message.bytes + at, &attr, sizeof(attr));
	memcpy(message.bytes + at + NLA_HDRLEN, text, len);
	message.header.nlmsg_len = at + NLA_ALIGN(attr.nla_len);
}

int main(int argc, char **argv)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
	struct nlmsgerr answer;

	if (argc != 3 || strlen(argv[1]) > 60 || strlen(argv[2]) > 60) {
		fprintf(stderr, "usage: rxe_add NAME NETDEV\n");
		return 2;
	}
	message.header = (struct nlmsghdr){
		.nlmsg_len = NLMSG_LENGTH(0),
		.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_NEWLINK),
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
	};
	add(RDMA_NLDEV_ATTR_DEV_NAME, argv[1]);
	add(RDMA_NLDEV_ATTR_LINK_TYPE, "rxe");
	add(RDMA_NLDEV_ATTR_NDEV_NAME, argv[2]);
	if (fd < 0 || send(fd, &message, message.header.nlmsg_len, 0) < 0 ||
	    recv(fd, &message, sizeof(message), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer))) {
		perror("rxe_add: netlink");
		return 1;
	}
	memcpy(&answer, NLMSG_DATA(&message.header), sizeof(answer));
	if (answer.error)
		fprintf(stderr, "rxe_add: %s\n", strerror(-answer.error));
	return !!answer.error;
}
