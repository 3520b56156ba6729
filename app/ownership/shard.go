package ownership

import (
	"strconv"
	"strings"
)

// Shards is the number of shards. It is part of the protocol: all workers of a registry need the
// same number.
const Shards = 256

// Hash returns the 64-bit FNV-1a hash of a name, from which the shard and the phase of an instance
// follow.
func Hash(name string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	return h
}

// Mix mixes the bits of a Hash by the finalizer of MurmurHash3. By FNV-1a alone, names that differ in their last digits
// are neighbours, and a sample of fleet60 to fleet90 may be one subnet.
func Mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// ShardOf returns the shard of an instance id, a vhost or a service.
func ShardOf(name string) int { return int(Hash(name) % Shards) }

// Share returns the largest number of shards that each of a number of workers may own.
func Share(workers int) int {
	if workers < 1 {
		return Shards
	}
	return (Shards + workers - 1) / workers
}

// Term names one period of a worker's ownership of a shard: the worker's id, and its counter when
// it took the shard. Under the empty term a worker owns no shard.
type Term string

// Worker returns the id of the term's worker.
func (t Term) Worker() string {
	worker, _, _ := strings.Cut(string(t), " ")
	return worker
}

// Count returns the counter of a term; 0 if the term was edited by hand.
func (t Term) Count() int64 {
	_, text, _ := strings.Cut(string(t), " ")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
