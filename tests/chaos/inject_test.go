package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/tests/harness"
)

// sicken makes the first backends of the vhosts with checks fail in one way.
func sicken(mode harness.Mode, n int) func(*world) {
	return func(w *world) {
		for _, host := range []string{"shop.chaos", "news.chaos"} {
			for _, m := range w.hosts[host][:n] {
				m.becomes(mode)
			}
		}
	}
}

func heal(w *world) {
	for _, m := range w.members() {
		if !m.well() {
			m.becomes(harness.Answers)
		}
	}
}

// crowded is the number of further instances, all on one backend.
const crowded = 150

// crowd starts a backend that many instances share, each with its own address.
func crowd(w *world, _ *harness.Server) []string {
	w.crowd = harness.BackendAt(w.t, "0.0.0.0:0")
	return nil
}

func crowdHangs(w *world) {
	host := func(n int) string { return fmt.Sprintf("127.66.%d.%d", n/250, 1+n%250) }
	for n := range crowded {
		w.must(http.MethodPost, "/v1/register", url.Values{
			"service": {"crowd"}, "id": {fmt.Sprint("crowd", n)}, "address": {net.JoinHostPort(host(n), w.crowd.Port())},
			"health": {"/"}, "interval": {"2s"}, "timeout": {"2s"},
		})
	}
	w.awaitCrowd(crowded, "healthy")
	w.crowd.Is(harness.Hangs)
}

// crowdDies stops twelve instances of four services at once, for good.
func crowdDies(w *world) {
	for n := range 12 {
		w.must(http.MethodPost, "/v1/register", url.Values{
			"service": {fmt.Sprint("crowd", n%4)}, "id": {fmt.Sprint("crowd", n)},
			"address": {net.JoinHostPort(fmt.Sprintf("127.66.0.%d", 1+n), w.crowd.Port())}, "health": {"/"},
		})
	}
	w.awaitCrowd(12, "healthy")
	w.crowd.Is(harness.Refuses)
}

// newcomers registers two further instances: they are healthy within 5 s, and the dead ones unhealthy
// within 30 s.
func newcomers(w *world) {
	others, died := harness.BackendAt(w.t, "0.0.0.0:0"), time.Now()
	for n := range 2 {
		registered := time.Now()
		w.must(http.MethodPost, "/v1/register", url.Values{
			"service": {"newcomer"}, "id": {fmt.Sprint("newcomer", n)},
			"address": {net.JoinHostPort(fmt.Sprintf("127.66.1.%d", 1+n), others.Port())}, "health": {"/"},
		})
		harness.Eventually(w.t, func() error {
			if d := w.stored()[fmt.Sprint("newcomer", n)]; d.State != "healthy" {
				return fmt.Errorf("newcomer%d is %s", n, d.State)
			}
			return nil
		})
		if took := time.Since(registered); took > 5*time.Second+w.machine.Slack() {
			w.t.Errorf("newcomer%d is healthy %s after its registration, want 5s", n, took)
		}
	}
	w.awaitCrowd(12, "unhealthy")
	if took := time.Since(died); took > 30*time.Second+w.machine.Slack() {
		w.t.Errorf("the dead were found out after %s, want 30s", took)
	}
}

// awaitCrowd waits until n instances of the crowd have a state.
func (w *world) awaitCrowd(n int, state string) {
	w.t.Helper()
	harness.Eventually(w.t, func() error {
		in := 0
		for id, d := range w.stored() {
			if strings.HasPrefix(id, "crowd") && d.State == state {
				in++
			}
		}
		if in < n {
			return fmt.Errorf("%d of the crowd are %s, want %d", in, state, n)
		}
		return nil
	})
}

func redisKilled(w *world) { w.Server.Kill() }

func redisRestarted(w *world) { w.Server.Restart(w.t, persistent...) }

func redisEmptied(w *world) { w.Server.Restart(w.t) }

func redisFrozen(w *world) { w.Server.Freeze() }

func redisThawed(w *world) { w.Server.Thaw() }

func redisFrozenWhileSick(w *world) {
	w.Server.Freeze()
	w.hosts["shop.chaos"][0].becomes(harness.Hangs)
	w.hosts["news.chaos"][0].becomes(harness.Refuses)
}

func redisFlushed(w *world) { w.do("FLUSHALL") }

func redisFull(w *world) { w.do("CONFIG", "SET", "maxmemory", "1") }

func redisHasRoom(w *world) { w.do("CONFIG", "SET", "maxmemory", "0") }

// do runs a Redis command.
func (w *world) do(args ...any) {
	w.t.Helper()
	if err := w.Redis.Do(w.t.Context(), args...).Err(); err != nil {
		w.t.Fatalf("%v: %v", args, err)
	}
}

// smallDisk moves Redis's files to a disk of 2 MB.
func smallDisk(w *world, server *harness.Server) []string {
	w.t.Helper()
	w.disk = needsRoot(w.t, "mount").TempDir()
	said, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", w.disk).CombinedOutput()
	if err != nil {
		w.t.Fatalf("mount: %v\n%s", err, said)
	}
	w.t.Cleanup(func() {
		server.Kill()
		if said, err := exec.Command("umount", w.disk).CombinedOutput(); err != nil {
			w.t.Errorf("umount: %v\n%s", err, said)
		}
	})
	server.Restart(w.t, append(persistent, "--dir", w.disk)...)
	return nil
}

// needsRoot skips a test without the needed rights. In CI, which runs as root, a missing program is
// an error.
func needsRoot(t *testing.T, program string) *testing.T {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("it needs root")
	}
	harness.Need(t, program)
	return t
}

func diskFull(w *world) {
	f, err := os.Create(filepath.Join(w.disk, "filler"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 4096)
	for err == nil { // until the disk is full
		_, err = f.Write(piece)
	}
}

func diskHasRoom(w *world) {
	if said := w.Redis.Info(w.t.Context(), "persistence").Val(); !strings.Contains(said, "aof_last_write_status:err") {
		w.t.Error("Redis has not noticed that its disk is full: nothing was tested")
	}
	if err := os.Remove(filepath.Join(w.disk, "filler")); err != nil {
		w.t.Fatal(err)
	}
}

// redisFlooded takes all free connections of Redis, and then the connections of all other clients.
func redisFlooded(w *world) {
	const room = 20 // fewer than the former clients need to reconnect
	w.do("CONFIG", "SET", "maxclients", room)
	ctx, cancel := context.WithCancel(w.t.Context())
	w.drain = cancel
	for range 2 * room {
		w.running.Go(func() {
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", w.Server.Addr())
				if err == nil {
					unblock := context.AfterFunc(ctx, func() { _ = c.Close() })
					_, _ = c.Read(make([]byte, 1)) // until Redis closes the connection
					unblock()
					_ = c.Close()
				}
				sleep(ctx, 10*time.Millisecond)
			}
		})
	}
	w.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
}

func redisDrained(w *world) {
	w.drain()
	harness.Eventually(w.t, func() error {
		return w.Redis.ConfigSet(w.t.Context(), "maxclients", "10000").Err()
	})
}

// withSentinel adds a replica and a sentinel to the Redis.
func withSentinel(w *world, primary *harness.Server) []string {
	w.t.Helper()
	replica := harness.StartRedis(w.t)
	replica.Restart(w.t, replicaOf(primary)...)
	return w.guarded(primary, replica)
}

// withSentinelAndALateReplica adds a replica whose clock is 20 s behind that of the primary.
func withSentinelAndALateReplica(w *world, primary *harness.Server) []string {
	w.t.Helper()
	replica := harness.StartRedis(w.t)
	replica.OwnClock(w.t, replicaOf(primary)...)(-20 * time.Second)
	return w.guarded(primary, replica)
}

func replicaOf(primary *harness.Server) (options []string) {
	host, port, _ := net.SplitHostPort(primary.Addr())
	return append(slices.Clone(persistent), "--replicaof", host+" "+port)
}

// guarded starts a sentinel of a primary and its replica.
func (w *world) guarded(primary, replica *harness.Server) []string {
	w.t.Helper()
	host, port, _ := net.SplitHostPort(primary.Addr())
	ctx := w.t.Context()
	info := replica.Client(w.t)
	harness.Eventually(w.t, func() error {
		if said := info.Info(ctx, "replication").Val(); !strings.Contains(said, "master_link_status:up") {
			return fmt.Errorf("the replica is not in step: %s", said)
		}
		return nil
	})
	dir := w.t.TempDir()
	config := filepath.Join(dir, "sentinel.conf")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	_, sentinel, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor primary %s %s 1\n"+
		"sentinel down-after-milliseconds primary 1000\nsentinel failover-timeout primary 5000\n", sentinel, dir, host, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.guard = func() *harness.Process { return harness.StartProcess(w.t, nil, "redis-server", config, "--sentinel") }
	w.sentry, w.sentinel = w.guard(), "127.0.0.1:"+sentinel
	watched := redis.NewSentinelClient(&redis.Options{Addr: w.sentinel})
	w.t.Cleanup(func() { _ = watched.Close() })
	harness.Eventually(w.t, func() error {
		replicas, err := watched.Replicas(ctx, "primary").Result()
		if err == nil && len(replicas) != 1 {
			err = fmt.Errorf("the sentinel knows %d replicas", len(replicas))
		}
		return err
	})
	return []string{"REDIS_URL=redis+sentinel://" + w.sentinel + "/primary"}
}

// withOwnClock gives Redis a wall clock that the fault can set.
func withOwnClock(w *world, server *harness.Server) []string {
	set := server.OwnClock(w.t, persistent...)
	w.setClock = func(ahead time.Duration) {
		set(ahead)
		harness.Eventually(w.t, func() error {
			is, err := w.Redis.Time(w.t.Context()).Result()
			if off := time.Until(is) - ahead; err == nil && off.Abs() > 5*time.Second {
				err = fmt.Errorf("the clock of Redis is off by %s", off)
			}
			return err
		})
	}
	return nil
}

// whileSettling has backends fail, and injects a fault while they are marked and still listed. On a busy machine it may miss
// that time, and tries again.
func whileSettling(inject func(*world)) func(*world) {
	return func(w *world) {
		for range 5 {
			sicken(harness.Refuses, 1)(w)
			w.awaitCalm()
			if w.settling() {
				inject(w)
				return
			}
			heal(w)
			w.awaitCalm()
		}
		w.t.Error("no backend was marked and still listed: nothing was tested")
	}
}

// settling reports whether the first backend of each vhost is still listed.
func (w *world) settling() bool {
	for _, host := range vhosts {
		if _, list, err := harness.Routed(w.t.Context(), w.Redis, host); err != nil || !slices.Contains(list, w.hosts[host][0].URL()) {
			return false
		}
	}
	return true
}

func clockSetWhileSettling(ahead time.Duration) func(*world) {
	return whileSettling(func(w *world) { w.setClock(ahead) })
}

// settledAndHealed waits until the failing backends have left their lists, which takes a settle time, and has them
// answer again.
func settledAndHealed(w *world) {
	const settle = 2 * time.Second // ROLLCALL_SETTLE
	began := time.Now()
	harness.Eventually(w.t, func() error {
		for _, host := range vhosts {
			if _, list, err := harness.Routed(w.t.Context(), w.Redis, host); err != nil || slices.Contains(list, w.hosts[host][0].URL()) {
				return errors.Join(err, fmt.Errorf("%s: the list is still %q", host, list))
			}
		}
		return nil
	})
	if took, allowed := time.Since(began), settle+w.machine.Slack(); took > allowed {
		w.t.Errorf("the failing backends left their lists %s later than they may, want %s", took, allowed)
	}
	heal(w)
}

func primaryKilled(w *world) { w.Server.Kill() }

// vhosts are the vhosts whose keys the fault edits.
var vhosts = []string{"shop.chaos", "news.chaos"}

func listsDeleted(w *world) {
	for _, host := range vhosts {
		w.do("DEL", "frontend:"+host)
	}
}

// listsEdited removes an entry in the middle, which moves the others, and duplicates another.
func listsEdited(w *world) {
	for _, host := range vhosts {
		w.do("LREM", "frontend:"+host, 1, w.hosts[host][1].URL())
		w.do("LINSERT", "frontend:"+host, "BEFORE", w.hosts[host][2].URL(), w.hosts[host][0].URL())
	}
}

func listsMistyped(w *world) {
	w.do("SET", "frontend:"+vhosts[0], "text")
	w.do("DEL", "frontend:"+vhosts[1])
	w.do("SADD", "frontend:"+vhosts[1], "member")
	w.do("SET", "dead:"+vhosts[1], "text")
}

func reconcile(w *world) { w.must(http.MethodPost, "/v1/jobs/reconcile/run", nil) }

func deadEdited(w *world) {
	for _, host := range vhosts {
		w.do("SADD", "dead:"+host, 0, 1, 2, 3, 99, -1, "x")
		w.do("PERSIST", "dead:"+host)
	}
}

func nonsenseAnnounced(w *world) {
	w.running.Go(func() {
		well := w.hosts["shop.chaos"][0].URL()
		for n := 0; n < 300 && w.ctx.Err() == nil; n++ {
			for _, said := range []string{
				"", ";", ";;;", "shop.chaos", "shop.chaos;" + well + ";0;4", "shop.chaos;" + well + "/;99;4", "shop.chaos;" + well + ";-1;-1",
				"nobody.chaos;http://127.0.0.1:1;0;1", "*;http://[::1];0;0", "shop.chaos;not a url;0;4", strings.Repeat("x", 100_000),
				"shop.chaos\r\n;" + well + ";0;4", "shop.chaos;" + well + ";0;999999999999999999999",
			} {
				_ = w.Redis.Publish(w.ctx, "dead", said).Err()
			}
			sleep(w.ctx, 10*time.Millisecond)
		}
	})
}

func workerKilled(w *world) {
	w.crons[0].Kill()
	w.hosts["shop.chaos"][0].becomes(harness.Hangs)
	w.hosts["news.chaos"][0].becomes(harness.Refuses)
}

func workerStarted(w *world) {
	w.crons[0] = w.Process("cron")
	heal(w)
}

func workerFrozen(w *world) {
	w.crons[0].Signal(syscall.SIGSTOP)
	w.hosts["shop.chaos"][0].becomes(harness.Hangs)
	w.hosts["news.chaos"][0].becomes(harness.Refuses)
}

func workerThawed(w *world) {
	w.crons[0].Signal(syscall.SIGCONT)
	heal(w)
}

func workersKilled(w *world) {
	for _, p := range w.crons {
		p.Kill()
	}
}

func workersStarted(w *world) {
	for n := range w.crons {
		w.crons[n] = w.Process("cron")
	}
}

func workersRestarted(w *world) {
	for n := range w.crons {
		w.crons[n].Stop()
		w.crons[n] = w.Process("cron")
		time.Sleep(time.Second)
	}
}

func clockLifted(w *world) {
	w.drain()
	reconcile(w)
}

func webKilled(w *world) { w.webs[0].Kill() }

func webStarted(w *world) { w.startWeb(0) }

func webFrozen(w *world) { w.webs[0].Signal(syscall.SIGSTOP) }

func webThawed(w *world) { w.webs[0].Signal(syscall.SIGCONT) }

func websRestarted(w *world) {
	for n := range w.webs {
		w.webs[n].Stop()
		w.startWeb(n)
	}
}

func edgeRestarted(w *world) {
	_, port, _ := net.SplitHostPort(w.edge.Addr("edge"))
	w.edge.Stop()
	p := w.Process("edge", "env", "ROLLCALL_EDGE_PORT="+port)
	p.Addr("edge")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.edge = p
}

// newerVersion writes as a later version may: unknown fields in documents and events, and unknown kinds
// of events. All backends stay as they are: this version judges none of them. older_test.go runs the
// binary of an older version.
func newerVersion(w *world) {
	for _, m := range w.members() {
		if err := w.Redis.Eval(w.t.Context(), ofTomorrow, []string{"rollcall:instance:" + m.id, "rollcall:events"}, m.id).Err(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.do("XADD", "rollcall:events", "*", "event", `{"kind":"zone-moved","at":1,"subject":"a","reason":"it is new","zone":"a"}`, "doc", "", "zone", "a")
	w.do("SET", "rollcall:zones", "a")
}

// flapping registers and deregisters a container as fast as possible.
func flapping(w *world) {
	b := harness.NewBackend(w.t)
	form := harness.Registration(b, "flapping", "shop.chaos", "service", "shop")
	var ctx context.Context
	ctx, w.drain = context.WithCancel(w.t.Context())
	w.running.Go(func() {
		for ctx.Err() == nil {
			_, _, _ = w.call(http.MethodPost, "/v1/register", form)
			_, _, _ = w.call(http.MethodDelete, "/v1/instances/flapping", nil)
		}
	})
}

func flapped(w *world) {
	w.drain()
	w.must(http.MethodDelete, "/v1/instances/flapping", nil)
}

// twins registers two containers at different addresses under one id.
func twins(w *world) {
	var ctx context.Context
	ctx, w.drain = context.WithCancel(w.t.Context())
	for range 2 {
		form := harness.Registration(harness.NewBackend(w.t), "twin", "twin.chaos", "service", "twin")
		w.running.Go(func() {
			for ctx.Err() == nil {
				_, _, _ = w.call(http.MethodPost, "/v1/register", form)
				sleep(ctx, 300*time.Millisecond)
			}
		})
	}
}

func onlyOne(w *world) {
	w.drain()
	harness.Eventually(w.t, func() error {
		if d := w.stored()["twin"]; d.State != "healthy" {
			return fmt.Errorf("the twin that was the last to register is %q", d.State)
		}
		return nil
	})
}
