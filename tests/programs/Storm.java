// SPDX-License-Identifier: MIT
// java Storm.java SECONDS - objects, direct buffers and threads, under the garbage collector
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

class Storm {
	static void churn(long end) {
		Random random = new Random();
		List<Object> kept = new ArrayList<>();

		while (System.nanoTime() < end) {
			kept.add(new byte[1 + random.nextInt(1 << 20)]);
			kept.add(ByteBuffer.allocateDirect(1 + random.nextInt(1 << 18)));
			while (kept.size() > 60)
				kept.remove(random.nextInt(kept.size()));
			if (random.nextInt(1000) == 0)
				System.gc();
		}
	}

	public static void main(String[] args) throws InterruptedException {
		long end = System.nanoTime() + (long) (Double.parseDouble(args[0]) * 1e9);

		while (System.nanoTime() < end) {
			long some = Math.min(end, System.nanoTime() + 500_000_000L);
			Thread thread = new Thread(() -> churn(some));

			thread.start();
			churn(some);
			thread.join();
		}
	}
}
