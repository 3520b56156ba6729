package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// ledger follows every command of a redis-server through MONITOR, and models the registry and the
// proxy's keys. After every script, which is one atomic step, it checks that registry, events and
// lists agree.
type ledger struct {
	mu sync.Mutex
	tally

	docs     map[string]harness.Document // by id
	seen     map[string]string           // id -> state in its last event
	lists    map[string][]string         // by vhost
	dead     map[string]map[string]bool  // by vhost
	workers  map[string]bool             // live workers
	shards   map[string]string           // terms
	lastLook float64                     // when a worker last renewed its lease

	at      float64
	changed map[string]string   // id -> state before the script
	told    map[string][]change // id -> changes in the script's events
	touched map[string]bool     // vhosts

	said chan string // the marker that sync sent
}

// tally is the result of a ledger so far.
type tally struct {
	problems []string
	steps    int // scripts
	events   int // in the stream
	writes   int // of lists and dead sets
	idOnly   int // times that a list had no backend while instances were registered
	moves    int // of shards
}

type change struct{ kind, from, to string }

const marker = "said by the ledger: "

// watch begins a ledger on a server without a registry.
func watch(t testing.TB, addr string) *ledger {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReaderSize(conn, 1<<20)
	if line, err := in.ReadString('\n'); err != nil || line != "+OK\r\n" {
		t.Fatalf("MONITOR: %q, %v", line, err)
	}
	l := &ledger{
		docs: map[string]harness.Document{}, seen: map[string]string{}, lists: map[string][]string{}, dead: map[string]map[string]bool{},
		workers: map[string]bool{}, shards: map[string]string{}, said: make(chan string, 1),
	}
	l.begin()
	go func() {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if _, text, found := strings.Cut(line, marker); found {
				l.said <- strings.TrimRight(text, "\"\r\n")
				continue
			}
			l.read(line)
		}
	}()
	t.Cleanup(func() { _ = conn.Close() })
	return l
}

// sync waits until the ledger has read every command sent so far, and returns the tally.
func (l *ledger) sync(k *stack) tally {
	k.t.Helper()
	word := rand.Text()
	k.Redis.Echo(k.t.Context(), marker+word)
	select {
	case heard := <-l.said:
		if heard != word {
			k.t.Fatalf("MONITOR says %q, want %q", heard, word)
		}
	case <-time.After(harness.Patience):
		k.t.Fatal("MONITOR does not come to its end")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	so := l.tally
	so.problems = slices.Clone(l.problems)
	return so
}

// awaitLook waits until a worker has renewed its lease after a moment, and returns the time that it
// took.
func (l *ledger) awaitLook(t testing.TB, since time.Time) (took time.Duration) {
	t.Helper()
	harness.Eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if took = time.UnixMicro(int64(l.lastLook * 1e6)).Sub(since); took <= 0 {
			return errors.New("no worker renews its lease")
		}
		return nil
	})
	return took
}

// parse reads a line of MONITOR: +time [db client] "arg" "arg"...
func parse(line string) (at float64, lua bool, args []string) {
	line = strings.TrimPrefix(strings.TrimSpace(line), "+")
	stamp, rest, _ := strings.Cut(line, " [")
	at, _ = strconv.ParseFloat(stamp, 64)
	from, rest, _ := strings.Cut(rest, "] ")
	lua = strings.HasSuffix(from, " lua")
	for rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return at, lua, args
		}
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return at, lua, args
		}
		args = append(args, arg)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return at, lua, args
}

func (l *ledger) read(line string) {
	at, lua, args := parse(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(args) == 0 {
		return
	}
	if lua {
		l.apply(at, args)
		return
	}
	l.end()
	l.at = at
	switch strings.ToLower(args[0]) {
	case "eval", "evalsha":
		l.begin()
		l.steps++
	case "set", "del", "rpush", "lpush", "lrem", "sadd", "srem", "zadd", "zrem", "hset", "hdel", "xadd":
		l.begin()
		if strings.HasPrefix(args[1], "frontend:") || strings.HasPrefix(args[1], "dead:") || strings.HasPrefix(args[1], "rollcall:instance:") {
			l.problem("written outside of a script: %q", args)
		}
		l.apply(at, args)
	default:
		l.begin()
	}
}

func (l *ledger) begin() {
	l.changed, l.told, l.touched = map[string]string{}, map[string][]change{}, map[string]bool{}
}

func (l *ledger) problem(format string, args ...any) {
	if len(l.problems) < 100 {
		at := time.UnixMicro(int64(l.at * 1e6)).Format(time.StampMicro)
		l.problems = append(l.problems, at+" "+fmt.Sprintf(format, args...))
	}
}

// apply records one command.
func (l *ledger) apply(at float64, args []string) {
	l.at = at
	command, key := strings.ToUpper(args[0]), ""
	if len(args) > 1 {
		key = args[1]
	}
	switch {
	case key == "rollcall:workers" || key == "rollcall:shards":
		l.own(at, command, key, args[2:])
	case key == "rollcall:events" && command == "XADD":
		l.tell(args)
	case strings.HasPrefix(key, "rollcall:instance:"):
		l.write(command, args[1:])
	default:
		for _, key := range args[1:min(len(args), 3)] { // DEL frontend:x dead:x
			if host, found := strings.CutPrefix(key, "frontend:"); found {
				l.list(command, host, args[2:])
			} else if host, found := strings.CutPrefix(key, "dead:"); found {
				l.mark(command, host, args[2:])
			}
			if command != "DEL" {
				break
			}
		}
	}
}

func (l *ledger) write(command string, args []string) {
	id := strings.TrimPrefix(args[0], "rollcall:instance:")
	was, known := l.docs[id]
	switch command {
	case "SET":
		var is harness.Document
		if err := json.Unmarshal([]byte(args[1]), &is); err != nil {
			l.problem("%s is stored as %q: %v", id, args[1], err)
			return
		}
		if is.Rev <= was.Rev {
			l.problem("%s goes from revision %d to %d", id, was.Rev, is.Rev)
		}
		l.docs[id] = is
	case "DEL":
		delete(l.docs, id)
	default:
		return
	}
	if _, noted := l.changed[id]; !noted {
		l.changed[id] = was.State
	}
	for _, d := range []harness.Document{was, l.docs[id]} {
		for _, h := range d.Hosts {
			l.touched[h] = true
		}
	}
	if command == "DEL" && !known {
		l.problem("%s is deleted and was not there", id)
	}
}

func (l *ledger) tell(args []string) {
	var e struct{ Kind, Instance, From, To string }
	var doc string
	for n := 2; n+1 < len(args); n++ {
		switch args[n] {
		case "event":
			if err := json.Unmarshal([]byte(args[n+1]), &e); err != nil {
				l.problem("an event is stored as %q: %v", args[n+1], err)
			}
		case "doc":
			doc = args[n+1]
		}
	}
	l.events++
	if e.Instance == "" { // of a worker, for instance
		return
	}
	l.told[e.Instance] = append(l.told[e.Instance], change{e.Kind, e.From, e.To})
	if e.From != l.seen[e.Instance] {
		l.problem("%s: an event %s tells of %q -> %q, and the one before ended with %q", e.Instance, e.Kind, e.From, e.To, l.seen[e.Instance])
	}
	l.seen[e.Instance] = e.To
	if e.To == "gone" {
		delete(l.seen, e.Instance)
	}
	var is harness.Document
	if doc != "" {
		_ = json.Unmarshal([]byte(doc), &is)
	}
	if doc != "" && is.State != e.To || doc == "" && e.To != "gone" {
		l.problem("%s: an event tells of %q -> %q and has the document %s", e.Instance, e.From, e.To, doc)
	}
}

// own records the owners. A shard is taken only when it is free, or when its owner is gone.
func (l *ledger) own(at float64, command, key string, args []string) {
	switch {
	case key == "rollcall:workers" && command == "HSET":
		l.workers[args[0]], l.lastLook = true, at
	case key == "rollcall:workers" && command == "HDEL":
		delete(l.workers, args[0])
	case command == "HDEL":
		delete(l.shards, args[0])
	case command == "HSET" && args[0] != "version":
		owner, _, _ := strings.Cut(l.shards[args[0]], " ")
		if l.workers[owner] {
			l.problem("shard %s goes from %q to %q while %s lives", args[0], l.shards[args[0]], args[1], owner)
		}
		l.shards[args[0]] = args[1]
		l.moves++
	}
}

func (l *ledger) list(command, host string, args []string) {
	l.touched[host] = true
	switch command {
	case "DEL":
		delete(l.lists, host)
	case "RPUSH":
		l.lists[host] = append(slices.Clip(l.lists[host]), args...)
	case "LRANGE", "LINDEX", "LPOS", "TYPE", "EXISTS", "LLEN":
		return
	default:
		l.problem("frontend:%s: %s %q", host, command, args)
	}
	l.writes++
}

func (l *ledger) mark(command, host string, args []string) {
	l.touched[host] = true
	switch command {
	case "DEL":
		if l.dead[host] == nil {
			return
		}
		delete(l.dead, host)
	case "SADD", "SREM":
		if l.dead[host] == nil {
			l.dead[host] = map[string]bool{}
		}
		for _, position := range args {
			if l.dead[host][position] = command == "SADD"; command == "SREM" {
				delete(l.dead[host], position)
			}
		}
	default:
		return
	}
	l.writes++
}

// end checks the state after a script.
func (l *ledger) end() {
	for id, was := range l.changed {
		is, told := l.docs[id].State, l.told[id]
		switch {
		case is == "" && (len(told) != 1 || told[0].to != "gone" || told[0].from != was):
			l.problem("%s went from %q and was removed, and the events say %v", id, was, told)
		case is == "":
		case is != was && (len(told) != 1 || told[0].from != was || told[0].to != is):
			l.problem("%s went from %q to %q, and the events say %v", id, was, is, told)
		case is == was && (len(told) > 1 || len(told) == 1 && (told[0].from != was || told[0].to != is)):
			l.problem("%s stayed %q, and the events say %v", id, is, told)
		}
	}
	for id, told := range l.told {
		if _, ok := l.changed[id]; !ok {
			l.problem("%s was not written, and the events say %v", id, told)
		}
	}
	for host := range l.touched {
		l.agree(host)
	}
	l.begin()
}

// agree checks that a vhost's list routes to the healthy instances of the registry.
func (l *ledger) agree(host string) {
	routable, list := map[string]int{}, l.lists[host]
	for position := range max(len(list)-1, 0) {
		if !l.dead[host][strconv.Itoa(position)] {
			routable[list[position+1]]++
		}
	}
	for position := range l.dead[host] {
		if n, err := strconv.Atoi(position); err != nil || n >= len(list)-1 {
			l.problem("%s: the mark %q is none of %q", host, position, list)
		}
	}
	healthy, registered := 0, 0
	for id, d := range l.docs {
		if !slices.Contains(d.Hosts, host) {
			continue
		}
		registered++
		if d.State != "healthy" {
			continue
		}
		healthy++
		if routable[d.URL()] != d.Slots() {
			l.problem("%s: %s is healthy and has %d routable slots, want %d; list %q, dead %v", host, id, routable[d.URL()], d.Slots(), list, l.dead[host])
		}
		delete(routable, d.URL())
	}
	switch {
	case healthy > 0 && len(routable) > 0:
		l.problem("%s: %v get traffic and are not healthy, and others are; list %q, dead %v", host, routable, list, l.dead[host])
	case len(routable) > 1:
		l.problem("%s: %v get traffic and are not healthy; only the last one may stay", host, routable)
	case registered > 0 && len(list) == 1:
		l.idOnly++
	}
}
