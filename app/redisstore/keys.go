package redisstore

import "rollcall/hipache"

// keys builds the name of every key of ours. All begin with the prefix, by default
// "rollcall:".
//
//	key             type    content
//	instance:<id>   string  JSON, {"rev":n,...} first; see record
//	results:<id>    string  the last results, 9 bytes each; see encodeResult
//	services        set     names of the services that have instances
//	service:<name>  set     ids of its instances
//	addresses       hash    address -> ids of the instances that have it, apart by spaces
//	hosts           hash    vhost -> the service that serves it
//	vhost:<host>    hash    backend url -> "slots keep leave id"; see lua/vhost.lua
//	marked:<host>   set     for a wildcard: requested hosts that have a dead set
//	settling        zset    vhost -> when its next surplus slot leaves the list, ms
//	due             zset    instance id -> when its next probe is due, ms; a claimed
//	                        one is due when the claim runs out, see lua/claim.lua
//	deadlines       zset    instance id -> when its state ends by itself, ms on the
//	                        clock that stands still during outages
//	overrides       zset    instance id -> when its override expires, ms
//	ticks           hash    tick, web: when a worker, a web process was last heard of, ms;
//	                        away: how long the second clock has stood still, ms
//	early:<id>      string  for a moment after a probe was brought forward
//	events          stream  event: JSON; doc: the instance after it, '' when gone
//	subscriptions   zset    webhook id -> when it is due, ms; +inf: not by itself; a claimed
//	                        one is due when the claim runs out, see lua/dispatch.lua
//	webhook:<id>    hash    doc: JSON; cursor: the last event told of; minute: "ms n", n told
//	                        one by one since; failing: "ms n", n failures since; paused: why;
//	                        repeated: when what is firing was last sent to Alertmanager, ms;
//	                        replay: "after until"; token: of the claim
//	attempts:<id>   list    a webhook's last attempts, newest first; JSON
//	tokens          hash    token id -> JSON, with the token's SHA-256
//	secret          string  random; what instances' keys are made with
//	epoch           string  random; another value means another registry
//	wake            channel something is due now
//	clock, vhosts, webhooks  string; no longer used, see step 2 in migrations
//
// The proxy's keys are hipache.Keys, with a prefix of their own.
type keys struct {
	prefix string
	proxy  hipache.Keys
}

func (k keys) instance(id string) string  { return k.prefix + "instance:" + id }
func (k keys) results(id string) string   { return k.prefix + "results:" + id }
func (k keys) services() string           { return k.prefix + "services" }
func (k keys) service(name string) string { return k.prefix + "service:" + name }
func (k keys) addresses() string          { return k.prefix + "addresses" }
func (k keys) vhosts() string             { return k.prefix + "hosts" }
func (k keys) vhost(host string) string   { return k.prefix + "vhost:" + host }
func (k keys) settling() string           { return k.prefix + "settling" }
func (k keys) queue(name string) string   { return k.prefix + name }
func (k keys) clock() string              { return k.prefix + "ticks" }
func (k keys) events() string             { return k.prefix + "events" }
func (k keys) webhooks() string           { return k.prefix + "subscriptions" }
func (k keys) webhook(id string) string   { return k.prefix + "webhook:" + id }
func (k keys) attempts(id string) string  { return k.prefix + "attempts:" + id }
func (k keys) tokens() string             { return k.prefix + "tokens" }
func (k keys) secret() string             { return k.prefix + "secret" }
func (k keys) epoch() string              { return k.prefix + "epoch" }
func (k keys) wake() string               { return k.prefix + "wake" }

// The queues; the names are those of their keys.
const (
	dueQueue      = "due"
	deadlineQueue = "deadlines"
	overrideQueue = "overrides"
)
