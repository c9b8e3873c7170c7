// SPDX-License-Identifier: MIT
/*
 * rxe_add NAME NETDEV: makes a device of Soft RoCE, as "rdma link add NAME type rxe" does.
 * rxe_add --delete NAME: as "rdma link delete NAME" does; it waits until nobody uses the device.
 */
#include <infiniband/verbs.h>
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

static void add(unsigned short type, const void *value, size_t len)
{
	size_t at = NLMSG_ALIGN(message.header.nlmsg_len);
	struct nlattr attr = { .nla_len = NLA_HDRLEN + len, .nla_type = type };

	memcpy(message.bytes + at, &attr, sizeof(attr));
	memcpy(message.bytes + at + NLA_HDRLEN, value, len);
	message.header.nlmsg_len = at + NLA_ALIGN(attr.nla_len);
}

static void add_text(unsigned short type, const char *text)
{
	add(type, text, strlen(text) + 1);
}

static void begin(int command)
{
	message.header = (struct nlmsghdr){
		.nlmsg_len = NLMSG_LENGTH(0),
		.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, command),
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
	};
}

/* Return: the number of the device; -1 if there is none of that name */
static int index_of(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	int index = -1;

	for (int i = 0; list && list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			index = ibv_get_device_index(list[i]);
	if (list)
		ibv_free_device_list(list);
	return index;
}

static int ask_to_delete(const char *name)
{
	int index = index_of(name);

	if (index < 0) {
		fprintf(stderr, "rxe_add: there is no device %s\n", name);
		return -1;
	}
	begin(RDMA_NLDEV_CMD_DELLINK);
	add(RDMA_NLDEV_ATTR_DEV_INDEX, &index, sizeof(index));
	return 0;
}

static void ask_to_add(const char *name, const char *netdev)
{
	begin(RDMA_NLDEV_CMD_NEWLINK);
	add_text(RDMA_NLDEV_ATTR_DEV_NAME, name);
	add_text(RDMA_NLDEV_ATTR_LINK_TYPE, "rxe");
	add_text(RDMA_NLDEV_ATTR_NDEV_NAME, netdev);
}

int main(int argc, char **argv)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
	struct nlmsgerr answer;

	if (argc != 3 || strlen(argv[1]) > 60 || strlen(argv[2]) > 60) {
		fprintf(stderr, "usage: rxe_add NAME NETDEV, or rxe_add --delete NAME\n");
		return 2;
	}
	if (strcmp(argv[1], "--delete"))
		ask_to_add(argv[1], argv[2]);
	else if (ask_to_delete(argv[2]))
		return 1;
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
