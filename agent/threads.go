package agent

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads the agent has from the start: calls of the kernel that take their time, such as those
// about files, hold one each.
const spareThreads = 32

// keepThreads makes threads, which Go never gives back, while there are some to be had. When the container has taken all
// the processes that there may be, Go's runtime ends a program that needs one more.
func keepThreads() {
	var here, all sync.WaitGroup
	here.Add(spareThreads)
	for range spareThreads {
		all.Go(func() { // ends when all have a thread of their own
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			here.Done()
			here.Wait()
		})
	}
	all.Wait()
}
