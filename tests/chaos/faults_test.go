package chaos

import (
	"testing"
	"time"

	"rollcall/tests/harness"
)

// fault is a fault with its permitted cost. Without a permission: no user gets an error (except for the
// request that detects a broken backend), no healthy backend is missing from a list, no failing backend
// stays in a list longer than detection takes, and no acknowledged write is lost.
type fault struct {
	name     string
	selected bool // part of the selection

	prepare func(*world, *harness.Server) (env []string)
	inject  func(*world)
	lasts   time.Duration
	lift    func(*world) // nil: the fault ends by itself

	visits  bool          // users may get errors until the fault is over
	unlists bool          // healthy backends may be missing from lists until the fault is over
	blind   bool          // failing backends may stay in lists until the fault is over
	delay   time.Duration // added to the promised detection time, and to the end of the above permissions
	forgets forgetting
	mends   bool // the fault writes keys that the reconcile job repairs
}

// forgetting is the set of acknowledged writes that may be lost.
type forgetting int

const (
	nothing    forgetting = iota
	aSecond               // writes of the last second
	everything            // all writes until the fault is over
)

// claims is how long the shards of a dead worker have no owner. back is the time that Rollcall needs to
// notice a returned Redis, in addition to its own timeouts.
const (
	claims = 3 * time.Second
	back   = 3 * time.Second
)

var faults = []fault{
	// Backends.
	{name: "a backend refuses", inject: sicken(harness.Refuses, 1), lasts: 4 * time.Second, lift: heal},
	{name: "a backend hangs", selected: true, inject: sicken(harness.Hangs, 1), lasts: 4 * time.Second, lift: heal},
	{name: "a backend answers 502, and late", inject: sicken(harness.Slow502, 1), lasts: 4 * time.Second, lift: heal},
	{name: "a backend resets connections", inject: sicken(harness.Resets, 1), lasts: 4 * time.Second, lift: heal},
	{name: "a backend's body does not end", inject: sicken(harness.Endless, 1), lasts: 4 * time.Second, lift: heal},
	{name: "a backend's body trickles", inject: sicken(harness.Trickles, 1), lasts: 4 * time.Second, lift: heal},
	{name: "many others time out at once", selected: true, prepare: crowd, inject: crowdHangs, lasts: 6 * time.Second},
	{name: "many die at once and two others come", prepare: crowd, inject: crowdDies, lift: newcomers},

	// Redis.
	{name: "redis is killed and restarted", selected: true, inject: redisKilled, lasts: 4 * time.Second, lift: redisRestarted, blind: true, delay: back, forgets: aSecond},
	{name: "redis is frozen", selected: true, inject: redisFrozen, lasts: 5 * time.Second, lift: redisThawed, blind: true, delay: back},
	{name: "redis is frozen while a backend dies", inject: redisFrozenWhileSick, lasts: 5 * time.Second, lift: redisThawed, blind: true, delay: back},
	{name: "redis comes back empty", inject: redisKilled, lasts: time.Second, lift: redisEmptied, visits: true, unlists: true, blind: true, delay: back, forgets: everything},
	{name: "redis is flushed", selected: true, inject: redisFlushed, visits: true, unlists: true, blind: true, delay: back, forgets: everything},
	{name: "redis is full", inject: redisFull, lasts: 4 * time.Second, lift: redisHasRoom, blind: true, delay: back},
	{name: "redis has no disk left", prepare: smallDisk, inject: diskFull, lasts: 5 * time.Second, lift: diskHasRoom, blind: true, delay: back},
	{name: "redis has no connections left", inject: redisFlooded, lasts: 4 * time.Second, lift: redisDrained, visits: true, blind: true, delay: back},
	{name: "the primary changes", prepare: withSentinel, inject: primaryKilled, lasts: 5 * time.Second, blind: true, delay: 10 * time.Second, forgets: aSecond},
	{name: "the primary changes while shards change hands", prepare: withSentinel, inject: primaryKilledAmidHandOver, lasts: 5 * time.Second, lift: threeWorkersShare, blind: true, delay: 10 * time.Second, forgets: aSecond},
	{name: "redis's clock is set ahead by an hour", selected: true, prepare: withOwnClock, inject: clockSetWhileSettling(time.Hour), lasts: 2 * time.Second, lift: settledAndHealed},
	{name: "redis's clock is set back by an hour", selected: true, prepare: withOwnClock, inject: clockSetWhileSettling(-time.Hour), lasts: 2 * time.Second, lift: settledAndHealed},
	{name: "redis's clock is set back by 20 s", prepare: withOwnClock, inject: clockSetWhileSettling(-20 * time.Second), lasts: 2 * time.Second, lift: settledAndHealed},
	{name: "the primary changes to a replica whose clock is 20 s behind", prepare: withSentinelAndALateReplica, inject: whileSettling(primaryKilled), lasts: 12 * time.Second, lift: settledAndHealed, blind: true, delay: 10 * time.Second, forgets: aSecond},
	{name: "the primary is frozen", prepare: withSentinel, inject: redisFrozen, lasts: 5 * time.Second, lift: redisThawed, blind: true, delay: 10 * time.Second, forgets: aSecond},
	{name: "the sentinel is frozen", prepare: withSentinel, inject: sentinelFrozen, lasts: 5 * time.Second, lift: sentinelThawed},
	{name: "a web process starts without a sentinel", prepare: withSentinel, inject: webStartsWithoutSentinel, lasts: 4 * time.Second, lift: sentinelStarted},
	{name: "redis's file is cut short", inject: fileCutShort, lasts: time.Second, lift: redisRestarted, blind: true, delay: back, forgets: aSecond},
	{name: "redis's scripts are flushed ten times a second", selected: true, inject: scriptsFlushed, lasts: 4 * time.Second, lift: drained},
	{name: "redis pauses its clients", inject: clientsPaused, lasts: 4 * time.Second, blind: true, delay: back},
	{name: "redis's connections are cut all the time", selected: true, prepare: withLink, inject: repliesCut, lasts: 4 * time.Second, lift: drained, blind: true, delay: back},
	{name: "redis's replies are lost", prepare: withLink, inject: repliesLost, lasts: 5 * time.Second, lift: linkMended, blind: true, delay: back},
	{name: "redis's replies are late by 200 ms", prepare: withLink, inject: repliesLate(200 * time.Millisecond), lasts: 5 * time.Second, lift: linkMended, delay: time.Second},
	{name: "redis's replies are late by 2 s", prepare: withLink, inject: repliesLate(2 * time.Second), lasts: 6 * time.Second, lift: linkMended, blind: true, delay: back + 2*time.Second},
	{name: "another installation has the same Redis and another prefix", inject: otherPrefix, lasts: time.Second},

	// Foreign writes to keys.
	{name: "lists are deleted by hand", inject: listsDeleted, lasts: time.Second, lift: reconcile, visits: true, unlists: true, mends: true},
	{name: "lists are edited by hand", inject: listsEdited, lasts: time.Second, lift: reconcile, visits: true, unlists: true, mends: true},
	{name: "lists become something else", selected: true, inject: listsMistyped, lasts: time.Second, lift: reconcile, visits: true, unlists: true, mends: true},
	{name: "dead sets are edited by hand", inject: deadEdited, visits: true, unlists: true, mends: true},
	{name: "nonsense is announced as dead", selected: true, inject: nonsenseAnnounced, lasts: 3 * time.Second},

	// Processes.
	{name: "a worker is killed while a backend dies", selected: true, inject: workerKilled, lasts: 6 * time.Second, lift: workerStarted, delay: claims},
	{name: "a worker is frozen while a backend dies", inject: workerFrozen, lasts: 6 * time.Second, lift: workerThawed, delay: claims},
	{name: "a worker is frozen for 10 s with its verdicts", selected: true, inject: workerFrozenWithVerdicts, lasts: 4 * time.Second, lift: workerFenced, delay: claims + 2*time.Second}, // another owner within 5 s
	{name: "twenty workers come and go", inject: workersComeAndGo, lift: twoWorkersLeft, delay: 2*claims + 2*time.Second},
	{name: "all workers are killed", inject: workersKilled, lasts: 4 * time.Second, lift: workersStarted, blind: true, delay: claims},
	{name: "all workers are restarted", inject: workersRestarted, delay: claims},
	{name: "a worker's clock is ahead", inject: clockStepped(30 * time.Second), lasts: 4 * time.Second, lift: clockLifted, delay: claims},
	{name: "a worker's clock is behind", inject: clockStepped(-30 * time.Second), lasts: 4 * time.Second, lift: clockLifted, delay: claims},
	{name: "the clocks of all processes are set ahead by an hour", prepare: withSteppingClocks, inject: clockSetWhileSettling(time.Hour), lasts: 2 * time.Second, lift: settledAndHealed},
	{name: "the clocks of all processes are set back by an hour", prepare: withSteppingClocks, inject: clockSetWhileSettling(-time.Hour), lasts: 2 * time.Second, lift: settledAndHealed},
	{name: "three of twelve workers are killed", inject: threeOfTwelveKilled, lasts: 6 * time.Second, lift: heal, delay: claims},
	{name: "processes are ended while they start", inject: endedWhileStarting},
	{name: "a web process is killed", selected: true, inject: webKilled, lasts: 4 * time.Second, lift: webStarted},
	{name: "a web process is frozen", inject: webFrozen, lasts: 6 * time.Second, lift: webThawed},
	{name: "web processes are restarted", inject: websRestarted},
	{name: "the edge is restarted", inject: edgeRestarted, visits: true},
	{name: "a newer version is at work as well", inject: newerVersion, lasts: 4 * time.Second, blind: true},

	{name: "subscribers do not read", inject: deafSubscribers, lasts: 5 * time.Second, lift: drained},
	{name: "nothing happens for a minute", inject: func(*world) {}, lasts: time.Minute},

	// Containers.
	{name: "a container comes and goes all the time", inject: flapping, lasts: 5 * time.Second, lift: flapped},
	{name: "two containers have one id", inject: twins, lasts: 5 * time.Second, lift: onlyOne},
}

func TestFaultsCostNoMoreThanTheyMay(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		if !all && !f.selected {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.run(newWorld(t, f))
		})
	}
}
