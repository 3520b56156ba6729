// Package redisstore keeps the registry in Redis: instances, who owns which shard of it, the
// events, and, through hipache's frontend.lua, the routing lists that the proxies read. It
// implements app.Store and jobs.Shares.
//
// Go decides what is written, Redis decides whether: commit.lua compares revisions and the
// term of the writing worker before it writes anything, and writes all of a change or nothing.
// The schema is the table in keys.go; docs/ownership.md explains who owns what.
//
// # The clock
//
// Times in documents and events are those of the Redis server, for people: Store.Now is what
// its clock said last, and the time since then by this process's monotonic clock. No decision
// depends on it but when a slot leaves a list. The owner of an instance measures its periods.
package redisstore
