package redisstore

import (
	"strconv"

	"rollcall/hipache"
)

// keys builds the name of every key of Rollcall. Each name begins with the prefix, by default "rollcall:".
//
//	key             type    content
//	instance:<id>   string  JSON, {"rev":n,...} first; see record
//	results:<id>    string  the last results, 9 bytes each; see encodeResult
//	services        set     names of the services that have instances
//	service:<name>  set     ids of its instances
//	addresses       hash    address -> ids of the instances at it, separated by spaces
//	hosts           hash    vhost -> the service that serves it
//	vhost:<host>    hash    backend url -> "wanted stay departure id"; see lua/vhost.lua
//	marked:<host>   set     for a wildcard: requested hosts that have a dead set
//	rewritten       set     wildcards whose list was rewritten since their owner last searched for dead sets
//	settling        zset    vhost -> its first departure, ms; see lua/vhost.lua
//	workers         hash    worker id -> the worker's own counter; see lua/own.lua
//	shards          hash    shard -> the term of its owner; version -> the last change
//	shard:<n>       string  the owner's data about the instances of a shard that is not in their
//	                        documents; see ownership.Progress
//	history:<series>      hash  statistics of service:<name> or vhost:<host>, see history.Series: m: minutes,
//	                        d<n>: the hours of a day, v: another value after each change
//	history-new:<series>  list  contributions that are not in the hash yet
//	history-batches hash    worker id -> the number of its last batch of contributions
//	departed:<name> list    the last instances of a service that left, newest first; JSON
//	processes       zset    JSON about a web or cron process -> its last announcement, ms; see diagnose.Process
//	web             string  a counter that web processes raise once a second
//	beats           hash    instance id -> time of its last heartbeat, ms
//	events          stream  event: JSON; doc: the instance after it, '' when gone
//	subscriptions   zset    webhook id -> due time, ms; +inf: only an event makes it due; for a
//	                        claimed webhook the end of the lease, see lua/dispatch.lua
//	webhook:<id>    hash    doc: JSON; cursor: the last delivered event; minute: "ms n", n events
//	                        delivered one by one since; failing: "ms n", n failures since; paused:
//	                        the reason; repeated: when the firing alerts were last sent to
//	                        Alertmanager, ms; replay: "after until"; token: of the claim
//	attempts:<id>   list    a webhook's last attempts, newest first; JSON
//	tokens          hash    token id -> JSON, with the token's SHA-256
//	agents          hash    node -> JSON, the last report of its agent; see agentRecord
//	secret          string  random; the keys of instances are derived from it
//	epoch           string  random; another value means another registry
//	shares, ask, flushed, probe, opinion  channels; see below
//	clock, vhosts, webhooks, ticks  strings; no longer used, see steps 2 and 3 in migrations
//
// The proxy's keys are hipache.Keys, with a prefix of their own.
type keys struct {
	prefix string
	proxy  hipache.Keys
}

func (k keys) instance(id string) string          { return k.prefix + "instance:" + id }
func (k keys) results(id string) string           { return k.prefix + "results:" + id }
func (k keys) services() string                   { return k.prefix + "services" }
func (k keys) service(name string) string         { return k.prefix + "service:" + name }
func (k keys) addresses() string                  { return k.prefix + "addresses" }
func (k keys) vhosts() string                     { return k.prefix + "hosts" }
func (k keys) vhost(host string) string           { return k.prefix + "vhost:" + host }
func (k keys) marked(host string) string          { return k.prefix + "marked:" + host }
func (k keys) rewritten() string                  { return k.prefix + "rewritten" }
func (k keys) settling() string                   { return k.prefix + "settling" }
func (k keys) events() string                     { return k.prefix + "events" }
func (k keys) webhooks() string                   { return k.prefix + "subscriptions" }
func (k keys) webhook(id string) string           { return k.prefix + "webhook:" + id }
func (k keys) attempts(id string) string          { return k.prefix + "attempts:" + id }
func (k keys) tokens() string                     { return k.prefix + "tokens" }
func (k keys) agents() string                     { return k.prefix + "agents" }
func (k keys) secret() string                     { return k.prefix + "secret" }
func (k keys) epoch() string                      { return k.prefix + "epoch" }
func (k keys) workers() string                    { return k.prefix + "workers" }
func (k keys) shards() string                     { return k.prefix + "shards" }
func (k keys) history(series string) string       { return k.prefix + "history:" + series }
func (k keys) contributions(series string) string { return k.prefix + "history-new:" + series }
func (k keys) batches() string                    { return k.prefix + "history-batches" }
func (k keys) departed(service string) string     { return k.prefix + "departed:" + service }
func (k keys) processes() string                  { return k.prefix + "processes" }
func (k keys) web() string                        { return k.prefix + "web" }
func (k keys) beats() string                      { return k.prefix + "beats" }
func (k keys) channel(name string) string         { return k.prefix + name }
func (k keys) record(shard int) string            { return k.prefix + "shard:" + strconv.Itoa(shard) }

// The channels between workers and web processes, each with its payload.
const (
	sharesChannel  = "shares"  // worker id: shards or workers have changed
	askChannel     = "ask"     // shard: a web process requests its record
	probeChannel   = "probe"   // instance id: its owner probes it at once
	flushedChannel = "flushed" // shard: its owner has written the requested record
	opinionChannel = "opinion" // JSON: a worker asks another worker to probe an instance, or answers
)
