# SPDX-License-Identifier: MIT
# storm.pl SECONDS - strings of all sizes that grow and are freed, and children
use strict;
use warnings;

my $end = time() + $ARGV[0];
my @kept;
my $n = 0;
while (time() < $end) {
	my $text = 'x' x rand(1 << 20);
	$text .= 'y' x rand(1 << 20);
	push @kept, $text, [map { "$_" } 0 .. rand(1000)];
	splice @kept, rand(@kept), 1 while @kept > 60;
	wait if $n++ % 100 == 0 && (fork() || exit);
}
