// SPDX-License-Identifier: MIT
// storm.js SECONDS - buffers, objects and worker threads, under the garbage collector
const { Worker, isMainThread, workerData } = require('worker_threads');
const zlib = require('zlib');
const end = isMainThread ? Date.now() + process.argv[2] * 1000 : workerData;

function churn() {
	const kept = [];
	while (Date.now() < end) {
		kept.push(Buffer.alloc(Math.random() * (1 << 20), 1));
		kept.push(Array.from({ length: Math.random() * 10000 }, (_, i) => ({ i })));
		kept.push(zlib.deflateSync(kept[0] instanceof Buffer ? kept[0] : Buffer.alloc(100000)));
		while (kept.length > 60)
			kept.splice(Math.random() * kept.length, 1);
	}
}

function work() {
	if (Date.now() < end)
		new Worker(__filename, { workerData: Math.min(end, Date.now() + 500) })
			.on('exit', work);
}

if (isMainThread)
	work();
churn();
