// Package ownership decides which worker probes which instance. It is pure: no clock,
// no lock, no I/O. The part that needs Redis is own.lua in redisstore.
//
// Instance ids, vhosts and services each belong to one of 256 shards by name. A worker
// owns shards, and works on them from memory. Once a second it makes one call (Call,
// Reply), which renews its lease and moves shards between workers:
//
//	          join                       own.lua, once a second
//	worker ─────────▶ member of `workers` ─────────────────────▶ lease of 3 s from the sending
//	                        │                                     of the last successful call
//	                        │ takes free shards up to its fair share, under a term of its own
//	                        ▼
//	                  owner of shards ── above its share: flushes, then gives back ──▶ free
//	                        │
//	                        ├─ stops: flushes, then leaves ──▶ free, others are told at once
//	                        └─ silent for 3 s: another worker drops it ──▶ free
//
// No shared clock is involved. A worker is gone when its counter did not change during
// 3 s in which all calls of the observer succeeded. A term is the worker's id, which is
// new at each start, and the worker's own counter: it never repeats, whatever Redis
// forgets. Every write of a worker names shard and term, and Redis refuses a write under
// any other term than the present one.
package ownership
