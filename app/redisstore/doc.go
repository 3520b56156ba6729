// Package redisstore keeps the registry in Redis: the instances, the owners of the shards, and the events. With hipache's
// frontend.lua it also writes the frontends that the proxies read. It implements registry.Store and jobs.Shares.
//
// Go computes a change; Redis decides whether the change is made. commit.lua compares revisions and the term of the
// writing worker, and then writes either the whole change or no key. The schema is the table in keys.go.
// docs/ownership.md explains the ownership of shards.
//
// # The clock
//
// Times in documents and events are times of the Redis server, for people. Store.Now returns the server's last known
// time plus the time that has passed since on this process's monotonic clock. Such a time also names each departure of
// backends. The owner of a shard measures all periods on its own monotonic clock.
package redisstore
