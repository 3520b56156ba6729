// Package ownership decides which worker probes which instance. It is pure: no clock, no lock, no
// I/O. own.lua in redisstore executes its calls.
//
// Each instance id, vhost and service belongs to one of 256 shards by its name. A worker owns
// shards and works on them from memory. Once a second it makes one call (Call, Reply), which
// renews its lease and moves shards between workers:
//
//	          join                       own.lua, once a second
//	worker ─────────▶ member of `workers` ─────────────────────▶ lease of 3 s from the sending
//	                        │                                     of the last successful call
//	                        │ takes free shards up to its fair share, under a term of its own
//	                        ▼
//	                  owner of shards ── above its share: flushes, then gives back ──▶ free
//	                        │
//	                        ├─ stops: flushes, then leaves ──▶ free, announced to the others
//	                        └─ silent for 3 s: another worker drops it ──▶ free
//
// The protocol needs no shared clock. A worker is gone if its counter did not change during 3 s in
// which all calls of the observer succeeded. A term is the worker's id, which is new at each start,
// and the worker's own counter, so that it never repeats even if Redis loses data. Each write of a
// worker names shard and term, and Redis refuses a write under any term but the present one.
package ownership
