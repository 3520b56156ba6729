package diagnose

import (
	"context"
	"time"

	"rollcall/app"
)

// Source reads the facts that the doctor needs, without changing any key.
type Source interface {
	Server(ctx context.Context) (Server, error)
	// Skew returns the time of Redis's clock minus that of this machine's clock.
	Skew(ctx context.Context) (time.Duration, error)
	Workers(ctx context.Context) (Workers, error)
	// Disputed returns the ids of the disputed instances, sorted; see app.Recent.
	Disputed(ctx context.Context) ([]string, error)
	Lists(ctx context.Context) (Lists, error)
	DeadSets(ctx context.Context) ([]DeadSet, error)
	// Agents returns the last report of each agent, by node.
	Agents(ctx context.Context) (Agents, error)
	// Now returns the time of Redis's clock.
	Now() time.Time
}

// Agents are the last reports of the agents.
type Agents struct {
	Key    string // of the hash, by node
	Agents []app.Agent
}

// Server has the fields of a Redis server's INFO, its settings save and min-replicas-to-write unless the server refuses
// to tell them, and sentinels, the number of sentinels that watch it.
type Server map[string]string

// Workers is the data of the workers and web processes at one moment.
type Workers struct {
	Counters map[string]string // of the workers, by id; a living worker's counter grows
	Terms    map[string]string // of the shards, by number; see ownership.Term
	Web      string            // counter of the web processes; empty if there never was one
}

// Process is a running web or cron process, as it describes itself.
type Process struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Roles   []string  `json:"roles"`
	Worker  string    `json:"worker,omitempty"` // id of its worker; empty without the role cron
	Version string    `json:"version"`
	Started time.Time `json:"started"`
}

// Lists is the registry together with the lists of the proxy.
type Lists struct {
	Instances []app.Instance
	Misplaced []string // ids of instances that are not in all of their vhosts or not under their address
	Lists     []List
}

// List is the list of one vhost.
type List struct {
	app.Frontend
	Key  string
	Type string // of the key, in Redis's words; "none" if it does not exist
}

// DeadSet is the dead set of one host.
type DeadSet struct {
	Key       string
	Type      string // of the key, in Redis's words
	Marks     []string
	Slots     int  // backends in the list that answers for the host
	Permanent bool // it has no time to live
}
