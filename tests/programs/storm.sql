-- SPDX-License-Identifier: MIT
-- for pgbench: what a backend needs memory for
SET work_mem = '32MB';
SELECT count(*) FROM (SELECT DISTINCT md5(n::text), repeat('x', n % 300)
	FROM generate_series(1, 20000) n ORDER BY 1 DESC) t;
SELECT length(string_agg(repeat('y', 1000), '')) FROM generate_series(1, 5000);
CREATE TEMP TABLE IF NOT EXISTS t (k int, v text);
INSERT INTO t SELECT n, repeat('z', n % 2000) FROM generate_series(1, 2000) n;
DROP TABLE t;
