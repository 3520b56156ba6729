package redisstore

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/registry"
	"rollcall/hipache"
)

// keepEvents is the approximate number of events in the stream.
const keepEvents = 10_000

var (
	//go:embed lua/settings.lua
	settingsSource string
	//go:embed lua/vhost.lua
	vhostSource string
	//go:embed lua/commit.lua
	commitSource string
	//go:embed lua/assert.lua
	assertSource string
	//go:embed lua/passed.lua
	passedSource string

	commitScript = withVhostsOnDemand(commitSource)
	assertScript = withVhostsOnDemand(assertSource)
	passedScript = withVhosts(passedSource)
)

// withVhosts returns a script that changes vhosts.
func withVhosts(source string) *redis.Script {
	return redis.NewScript(settingsSource + hipache.FrontendLua + vhostSource + source)
}

// withVhostsOnDemand returns a script that changes vhosts, for instances of which many have no vhost. A run that uses no
// function of vhost.lua does not create those functions, because that takes longer than to write an instance. Such a
// script cannot use frontend.lua.
func withVhostsOnDemand(source string) *redis.Script {
	return redis.NewScript(settingsSource + `
local function all_of_vhost()
` + hipache.FrontendLua + vhostSource + `
  return vhost
end
local vhost = setmetatable({repaired = {}}, {__index = function(t, name)
  setmetatable(t, nil)
  for k, v in pairs(all_of_vhost()) do t[k] = v end
  return t[name]
end})
` + source)
}

// Options are the settings of a store. The zero value of a field means its default.
type Options struct {
	Prefix   string        // of Rollcall's keys; default "rollcall:"
	Hipache  hipache.Keys  // the proxy's keys
	Settle   time.Duration // how long a marked backend stays in its frontend; default hipache.SettleTime
	Timeout  time.Duration // of every call; a call to a Redis that hangs fails after it; default 900ms
	Limit    int           // largest number of instances of a service; default no limit
	Backends int           // largest number of backends of a vhost; default no limit
	Log      *slog.Logger  // default slog.Default()

	Now func() time.Time // this machine's clock; default time.Now
}

// Store is the registry in one Redis.
type Store struct {
	rdb      redis.UniversalClient
	keys     keys
	settle   time.Duration
	timeout  time.Duration
	limit    int
	backends int
	log      *slog.Logger
	now      func() time.Time
	clock    atomic.Pointer[reading] // nil before SyncClock
	asking   asking
	stats    Stats
	refusal  atomic.Pointer[error] // of the last call of Alive or Own that Redis answered; nil: not refused

	pipeline pipeline // batches calls that many goroutines make at the same time
}

var _ registry.Store = (*Store)(nil)

// New returns the store in rdb, a client of the primary. The client must have been made with ContextTimeoutEnabled;
// otherwise a Redis that hangs blocks every call. Call SyncClock before any method that depends on time.
func New(rdb redis.UniversalClient, o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	timeout := cmp.Or(o.Timeout, 900*time.Millisecond)
	return &Store{
		rdb:      rdb,
		keys:     keys{prefix: cmp.Or(o.Prefix, "rollcall:"), proxy: o.Hipache},
		settle:   cmp.Or(o.Settle, hipache.SettleTime),
		timeout:  timeout,
		limit:    o.Limit,
		backends: o.Backends,
		log:      cmp.Or(o.Log, slog.Default()),
		now:      o.Now,

		pipeline: pipeline{rdb: rdb, timeout: timeout},
	}
}

// settings returns the first argument of every script that changes instances or vhosts.
func (s *Store) settings() []byte {
	doc, _ := json.Marshal(struct { // strings and numbers always have a JSON form
		Prefix  string `json:"prefix"`
		Hipache string `json:"hipache"`
		Now     int64  `json:"now"`
		Settle  int64  `json:"settle"`
		MarkTTL int    `json:"mark_ttl"`
		Passive int    `json:"passive_ttl"`
	}{
		s.keys.prefix, s.keys.proxy.Prefix, s.Now().UnixMilli(), s.settle.Milliseconds(),
		int(hipache.SettleMarkTTL.Seconds()), int(hipache.PassiveTTL.Seconds()),
	})
	return doc
}

// run runs a script that has no keys. Concurrent runs share a round trip.
func (s *Store) run(ctx context.Context, script *redis.Script, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, append([]any{"evalsha", script.Hash(), 0}, args...)...)
	switch err := s.pipeline.process(ctx, cmd); {
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		return script.Eval(ctx, s.rdb, nil, args...)
	case err != nil:
		return redis.NewCmdResult(nil, err)
	}
	return cmd
}

// Get returns an instance, or app.ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (app.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var doc, beat *redis.StringCmd
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		doc, beat = p.Get(ctx, s.keys.instance(id)), p.HGet(ctx, s.keys.beats(), id)
		return nil
	})
	if err := failed(cmds, err, noValue); err != nil {
		return app.Instance{}, wrap("get instance "+id, err)
	}
	if errors.Is(doc.Err(), redis.Nil) {
		return app.Instance{}, fmt.Errorf("instance %s: %w", id, app.ErrNotFound)
	}
	i, err := decode(id, doc.Val())
	if err != nil {
		return app.Instance{}, err
	}
	if ms, err := beat.Int64(); err == nil {
		i.AssertedAt = time.UnixMilli(ms)
	}
	return i, nil
}

// Results returns the last results of an instance, oldest first.
func (s *Store) Results(ctx context.Context, id string) ([]app.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	v, err := s.rdb.Get(ctx, s.keys.results(id)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, wrap("get results of "+id, err)
	}
	return decodeResults(v), nil
}

// changeArg is the change that commit.lua reads. The head of the script documents the fields.
type changeArg struct {
	Steps    []stepArg `json:"steps"`
	Keep     int       `json:"keep"`
	Limit    int       `json:"limit,omitempty"`
	Backends int       `json:"backends,omitempty"`

	Seen  []seenArg         `json:"seen,omitempty"`
	Takes map[string]string `json:"takes,omitempty"`
	Shard int               `json:"shard"`
	Term  string            `json:"term,omitempty"`
}

// seenArg is an instance and its expected revision.
type seenArg struct {
	ID  string `json:"id"`
	Rev int64  `json:"rev"`
}

type stepArg struct {
	ID         string `json:"id"`
	Rev        int64  `json:"rev"`
	Doc        string `json:"-"`
	Service    string `json:"service"`
	Boot       string `json:"boot,omitempty"`
	Address    string `json:"address"`
	WasAddress string `json:"was_address,omitempty"`

	Peers []startRecord `json:"peers,omitempty"`

	Beat    *int64    `json:"beat,omitempty"`
	Asserts bool      `json:"asserts,omitempty"`
	Result  string    `json:"-"`
	Hosts   []hostArg `json:"hosts"`
	Passed  bool      `json:"passed,omitempty"`
	Spare   bool      `json:"spare,omitempty"`
	Event   string    `json:"-"`
}

// hostArg describes an instance's backends in one vhost after the change.
type hostArg struct {
	Host string `json:"host"`
	URL  string `json:"url"`
	N    int    `json:"n"`    // number of backends wanted
	Keep int    `json:"keep"` // see stayNever
	ID   string `json:"id"`   // empty: no longer registered

	Was *string `json:"was,omitempty"` // the entry applies only if the member belongs to this id
	New bool    `json:"new,omitempty"` // the instance did not serve the vhost before
}

// Commit makes a change; see registry.Store.
func (s *Store) Commit(ctx context.Context, c app.Change) (app.Revision, error) {
	arg := changeArg{Keep: keepEvents, Limit: s.limit, Backends: s.backends, Takes: c.Takes, Shard: c.Fence.Shard, Term: c.Fence.Term}
	for _, i := range c.Seen {
		arg.Seen = append(arg.Seen, seenArg{i.ID, i.Rev})
	}
	for n, step := range c.Steps {
		step.Is.Rev = app.NextRevision(step.Was.Rev)
		c.Steps[n].Is.Rev = step.Is.Rev
		a, err := stepOf(step)
		if err != nil {
			return "", err
		}
		arg.Steps = append(arg.Steps, a)
	}
	return s.commit(ctx, arg)
}

func (s *Store) commit(ctx context.Context, arg changeArg) (app.Revision, error) {
	doc, err := json.Marshal(arg)
	if err != nil {
		return "", fmt.Errorf("encode change: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	args := []any{s.settings(), doc}
	for _, step := range arg.Steps {
		args = append(args, step.Doc, step.Event, step.Result)
	}
	reply, err := s.run(ctx, commitScript, args...).StringSlice()
	if err != nil {
		return "", wrapChange("commit", err)
	}
	switch reply[0] {
	case "ok":
		s.stats.Commits.Add(1)
		s.stats.wrote(reply[2], reply[3])
	default:
		s.stats.Refused.Add(1)
	}
	switch reply[0] {
	case "conflict":
		return "", fmt.Errorf("instance %s was changed by another call: %w", reply[1], app.ErrConflict)
	case "lost":
		return "", fmt.Errorf("change of %s: %w", cmp.Or(reply[1], "an instance of another worker"), app.ErrNotOwner)
	case "last":
		return "", fmt.Errorf("instance %s in vhost %s: %w", reply[1], reply[2], app.ErrLastBackend)
	case "taken":
		return "", &app.TakenError{What: reply[1], Value: reply[2], Holder: reply[3]}
	case "full":
		return "", &app.FieldError{
			Field: "service", Held: true, Problem: fmt.Sprintf("has %d instances already", arg.Limit),
			Want: "deregister unused instances; the limit is ROLLCALL_MAX_INSTANCES",
		}
	case "crowded":
		return "", &app.FieldError{
			Field: "host", Held: true, Problem: fmt.Sprintf("%s has %d backends already", reply[1], arg.Backends),
			Want: "deregister unused instances, or serve a part of them under another vhost; the limit is ROLLCALL_MAX_BACKENDS",
		}
	}
	s.reportRepairs(ctx, reply[4:])
	return app.Revision(reply[1]), nil
}

func (s *Store) reportRepairs(ctx context.Context, repaired []string) {
	for _, key := range repaired {
		s.log.WarnContext(ctx, "a key of the proxy had the wrong type and was created again", "key", key)
	}
}

func stepOf(step app.Step) (stepArg, error) {
	was, is := step.Was, step.Is
	a := stepArg{
		ID: is.ID, Rev: was.Rev, Service: is.Service, Boot: is.Boot, Address: is.Address, Peers: peersOf(is.Claims),
		Hosts: hostsOf(was, is), Passed: is.Last.Passed && is.Last != was.Last,
		Spare: step.Spare, Beat: step.Beat, Asserts: step.Asserts,
	}
	var err error
	if step.Event != nil {
		if a.Event, err = encodeEvent(*step.Event); err != nil {
			return stepArg{}, err
		}
	}
	if is.State == app.Gone {
		a.Address = was.Address
		return a, nil
	}
	if a.Doc, err = encode(is, is.Rev); err != nil {
		return stepArg{}, err
	}
	if was.Rev > 0 && was.Address != is.Address {
		a.WasAddress = was.Address
	}
	if is.Check.Kind == app.Heartbeat && is.Last != was.Last && is.Last != (app.Result{}) { // for other kinds the owner keeps the results
		a.Result = encodeResult(is.Last)
	}
	return a, nil
}

// hostsOf lists an instance's backends in every vhost that it served or serves. While the instance is on the move, its
// former address may stay as the last routable backend.
func hostsOf(was, is app.Instance) []hostArg {
	hosts, id := []hostArg{}, is.ID
	if was.Rev > 0 {
		for _, h := range was.Hosts {
			hosts = append(hosts, hostArg{Host: h, URL: was.URL(), Was: &id})
			if from := was.Claims.Moved; from != "" {
				hosts = append(hosts, hostArg{Host: h, URL: "http://" + from, Was: &id})
			}
		}
	}
	if is.State == app.Gone {
		return hosts
	}
	for _, h := range is.Hosts {
		if from := is.Claims.Moved; from != "" && is.FailOpen && !is.Override.Maintenance {
			hosts = append(hosts, hostArg{Host: h, URL: "http://" + from, Keep: stayLast, ID: id, Was: &id})
		}
		hosts = append(hosts, hostArg{Host: h, URL: is.URL(), N: is.Slots(), Keep: keepOf(is), ID: is.ID, New: was.Rev == 0 || !slices.Contains(was.Hosts, h)})
	}
	return hosts
}

// The values of hostArg.Keep and member.stay.
const (
	stayNever  = 0
	stayLast   = 1 // the backend may stay as the last routable one
	stayReturn = 2 // and may also be listed again as the last routable one
)

func keepOf(i app.Instance) int {
	switch {
	case !i.MayStay():
		return stayNever
	case i.State == app.Draining: // it was asked to leave, but did not fail
		return stayLast
	}
	return stayReturn
}

// CanSpare reports whether an instance can wait; see registry.Store.
func (s *Store) CanSpare(ctx context.Context, i app.Instance) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if len(i.Hosts) == 0 {
		return s.serviceCanSpare(ctx, i.Service)
	}
	vhosts := make([]*redis.StringSliceCmd, len(i.Hosts))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, host := range i.Hosts {
			vhosts[n] = p.HVals(ctx, s.keys.vhost(host))
		}
		return nil
	})
	if err != nil {
		return false, wrap("read the vhosts of "+i.ID, err)
	}
	return !slices.ContainsFunc(vhosts, func(members *redis.StringSliceCmd) bool { return mostUnroutable(members.Val()) }), nil
}

// serviceCanSpare reports whether at least half of a service's instances are routable. Draining instances do not count.
func (s *Store) serviceCanSpare(ctx context.Context, service string) (bool, error) {
	ids, err := s.rdb.SMembers(ctx, s.keys.service(service)).Result()
	if err != nil {
		return false, wrap("list the instances of "+service, err)
	}
	docs, err := s.documents(ctx, ids)
	if err != nil {
		return false, err
	}
	routable, others := 0, 0
	for n, doc := range docs {
		text, _ := doc.(string) // empty if the instance was removed after it was listed
		switch other, err := decode(ids[n], text); {
		case err != nil || other.State == app.Draining:
		case other.Routable():
			routable++
		default:
			others++
		}
	}
	return routable >= others, nil
}

// mostUnroutable reports whether more than half of a vhost's members want no backend. Unregistered members, and members
// that may only stay as the last ones (draining instances, or former addresses), do not count.
func mostUnroutable(members []string) bool {
	routable, others := 0, 0
	for _, value := range members {
		switch m, ok := parseMember(value); {
		case !ok || m.id == "" || m.stay == stayLast:
		case m.wanted > 0:
			routable++
		default:
			others++
		}
	}
	return routable < others
}

// Assert stores an instance's heartbeat; see registry.Store.
func (s *Store) Assert(ctx context.Context, i app.Instance, r *app.Result) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	args := []any{s.settings(), i.ID, i.Rev, "", i.URL()}
	if r != nil {
		args[3] = encodeResult(*r)
		if r.Passed && i.Routable() {
			for _, h := range i.Hosts {
				args = append(args, h)
			}
		}
	}
	same, err := s.run(ctx, assertScript, args...).Bool()
	if err != nil {
		return wrap("note the report of "+i.ID, err)
	}
	if !same {
		return fmt.Errorf("instance %s was changed by another call: %w", i.ID, app.ErrConflict)
	}
	return nil
}

// Passed removes the marks of an instance's backends; see registry.Store.
func (s *Store) Passed(ctx context.Context, i app.Instance, f app.Fence) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	args := []any{s.settings(), i.URL(), f.Shard, f.Term}
	for _, h := range i.Hosts {
		args = append(args, h)
	}
	owned, err := s.run(ctx, passedScript, args...).Bool()
	if err != nil {
		return wrap("clear the marks of "+i.ID, err)
	}
	if !owned {
		return fmt.Errorf("clear the marks of %s: %w", i.ID, app.ErrNotOwner)
	}
	return nil
}

// Serving returns the instances that serve a vhost; see registry.Store.
func (s *Store) Serving(ctx context.Context, host string) ([]app.Instance, error) {
	members, err := s.members(ctx, []string{host})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, v := range members[host] {
		if m, ok := parseMember(v); ok && m.id != "" && !slices.Contains(ids, m.id) {
			ids = append(ids, m.id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	slices.Sort(ids)
	docs, err := s.documents(ctx, ids)
	if err != nil {
		return nil, err
	}
	var serving []app.Instance
	for n, doc := range docs {
		text, ok := doc.(string)
		if !ok {
			continue
		}
		i, err := decode(ids[n], text)
		if err != nil {
			return nil, err
		}
		if slices.Contains(i.Hosts, host) {
			serving = append(serving, i)
		}
	}
	return serving, nil
}

// wrap adds the attempted action to an error. The result is app.ErrUnavailable if Redis did not answer, or answered that
// it cannot serve the call now.
func wrap(doing string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if _, answered := errors.AsType[redis.Error](err); answered && !refused(err) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, app.ErrUnavailable, err)
}

// wrapChange wraps the error of a call that changes data. If Redis did not answer and the call may have reached it, the
// result is also app.ErrUncertain.
func wrapChange(doing string, err error) error {
	wrapped := wrap(doing, err)
	_, answered := errors.AsType[redis.Error](err)
	dial, ok := errors.AsType[*net.OpError](err)
	if answered || !errors.Is(wrapped, app.ErrUnavailable) || errors.Is(err, errWithdrawn) || errors.Is(err, redis.ErrPoolTimeout) || ok && dial.Op == "dial" {
		return wrapped
	}
	return fmt.Errorf("%w: %w", wrapped, app.ErrUncertain)
}

func wrapIf(doing string, err error) error {
	if err == nil {
		return nil
	}
	return wrap(doing, err)
}

// refusals are parts of the answers of a Redis that cannot serve a call now.
var refusals = []string{"LOADING ", "READONLY ", "MASTERDOWN ", "MISCONF ", "OOM ", "NOREPLICAS ", "BUSY ", "max number of clients"}

// refused reports whether Redis answered that it cannot serve a call now.
func refused(err error) bool {
	answer, ok := errors.AsType[redis.Error](err)
	// The code need not come first: Redis 6 puts "ERR Error running script" before it.
	return ok && slices.ContainsFunc(refusals, func(code string) bool { return strings.Contains(answer.Error(), code) })
}

// failed returns the first error of a pipeline that is not of the accepted kind. The error that the pipeline itself
// returns is the first one of any kind, and may hide another.
func failed(cmds []redis.Cmder, err error, none func(error) bool) error {
	if err == nil || !none(err) {
		return err
	}
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil && !none(e) {
			return e
		}
	}
	return nil
}

func noValue(err error) bool { return errors.Is(err, redis.Nil) }
