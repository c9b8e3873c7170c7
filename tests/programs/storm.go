// SPDX-License-Identifier: MIT
// storm SECONDS - slices and goroutines under the garbage collector, and maps of its own
package main

import (
	"math/rand"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

func churn(end time.Time, done chan bool) {
	kept := [][]byte{}
	for time.Now().Before(end) {
		slice := make([]byte, 1+rand.Intn(1<<20))
		for i := 0; i < len(slice); i += 4096 {
			slice[i] = 1
		}
		kept = append(kept, slice)
		if len(kept) > 60 {
			i := rand.Intn(len(kept))
			kept[i] = kept[len(kept)-1]
			kept = kept[:len(kept)-1]
		}
		prot := syscall.PROT_READ | syscall.PROT_WRITE
		mapped, err := syscall.Mmap(-1, 0, 4096*(1+rand.Intn(64)), prot,
			syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			panic(err)
		}
		mapped[0] = 1
		time.Sleep(time.Millisecond)
		syscall.Munmap(mapped)
	}
	done <- true
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		panic(err)
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	done := make(chan bool)
	go churn(end, done)
	go churn(end, done)
	for time.Now().Before(end) {
		time.Sleep(300 * time.Millisecond)
		debug.FreeOSMemory()
	}
	<-done
	<-done
}
