// Package redisstore keeps the registry in Redis: instances, the queues of what is
// due, the events, and, through hipache's frontend.lua, the routing lists that the
// proxies read. It implements app.Store and app.Queue.
//
// Go decides what is written, Redis decides whether: commit.lua compares revisions
// and claims before it writes anything, and writes all of a change or nothing. The
// schema is the table in keys.go.
//
// # Two clocks
//
// Times are those of the Redis server: Store.Now is what its clock said last, and the
// time since then by this process's monotonic clock. Deadlines (leases, grace, holds) are kept on a second
// clock that stands still while nobody could have renewed them, because Redis, the
// workers or the web processes were away; see lua/tick.lua. Callers see one time:
// the store converts.
package redisstore
