package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// oldest is the oldest commit that the schema admits: the commit that raised it. A commit that adds a
// schema-raising step to migrations must also set oldest to its own hash.
const oldest = "7a97e15b9ec9c346d08c09dee25360f9ad0fae9a"

// The commit that raised the schema to 2, and the last commit before it was raised to 3.
const (
	schema2     = "b88d29f87d0ccc30db01b7f23b2e8bc7c7ff8ec6"
	lastSchema2 = "0fe6c802d3cf93114ba37dc3a077a76e9d0bc700"
)

// buildAt builds the program of a commit of this repository.
func buildAt(t *testing.T, commit string) string {
	t.Helper()
	dir := t.TempDir()
	git := func(args ...string) *exec.Cmd {
		c := exec.Command("git", args...)
		c.Dir = "../.."
		return c
	}
	if said, err := git("cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		const reason = "the history of this clone does not reach commit %s (fetch all of it: git fetch --unshallow): %s"
		if os.Getenv("CI") != "" {
			t.Fatalf(reason, commit, said)
		}
		t.Skipf(reason, commit, said)
	}
	archive := filepath.Join(dir, "source.tar")
	if said, err := git("archive", "--output", archive, commit).CombinedOutput(); err != nil {
		t.Fatalf("git archive: %v\n%s", err, said)
	}
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("tar", "-xf", archive, "-C", source).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, said)
	}
	path := filepath.Join(dir, "rollcall-older")
	build := exec.Command("go", "build", "-o", path, "./app/cmd/rollcall")
	build.Dir = source
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build of %s: %v\n%s", commit, err, said)
	}
	return path
}

// ofTomorrow writes fields that neither version knows, as a next version may: with a new revision, and
// with an event. KEYS[1] is the document, KEYS[2] the stream, ARGV[1] the id.
const ofTomorrow = `
local doc = redis.call('GET', KEYS[1])
doc = string.gsub(doc, '^{"rev":(%d+)', function(rev) return '{"rev":' .. string.format('%.0f', rev + 1048576) end)
local rest, n = string.gsub(doc, '"check":{', '"check":{"zone":"c",')
if n == 0 then rest = string.gsub(doc, '}$', ',"check":{"zone":"c"}}') end
rest = string.gsub(rest, '}$', ',"zone":{"rank":[1]}}')
redis.call('SET', KEYS[1], rest)
local is = cjson.decode(rest)
local event = {kind = 'updated', at = 1, service = is.service, instance = ARGV[1], from = is.state, to = is.state, reason = 'of tomorrow'}
redis.call('XADD', KEYS[2], '*', 'event', cjson.encode(event), 'doc', rest)
return 1`

func TestAnOlderVersionBesideTheCurrentOneHarmsNothing(t *testing.T) {
	t.Parallel()
	older := buildAt(t, oldest)
	k := harness.NewStack(t, harness.StartRedis(t))
	k.Process("cron")
	harness.StartProcess(t, k.Env, older, "cron")
	bases := []string{"http://" + k.Process("web").Addr("API"), "http://" + harness.StartProcess(t, k.Env, older, "web").Addr("API")}
	call := func(n int, form url.Values) string {
		t.Helper()
		resp, err := http.PostForm(bases[n]+"/v1/register", form)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode >= 300 {
			return fmt.Sprintf("%d %s", resp.StatusCode, body)
		}
		return ""
	}
	backends, forms := map[string]*harness.Backend{}, map[string]url.Values{}
	for n := range 12 {
		id := fmt.Sprint("i", n)
		backends[id] = harness.NewBackend(t)
		forms[id] = harness.Registration(backends[id], id, "older.chaos", "service", "older", "interval", "1s", "forget", "2s", "expect", "200-299")
		if n > 8 { // a field that the older version lacks
			forms[id].Set("expect", "200,204")
		}
		harness.Eventually(t, func() error { // until both webs can write
			if said := call(0, forms[id]); said != "" {
				return fmt.Errorf("register %s: %s", id, said)
			}
			return nil
		})
	}
	documents := func() map[string]harness.Document {
		all, err := harness.ReadAll(t.Context(), k.Redis)
		if err != nil {
			t.Fatal(err)
		}
		return all.Docs
	}
	harness.Eventually(t, func() error {
		for id := range forms {
			if state := documents()[id].State; state != "healthy" {
				return fmt.Errorf("%s is %q", id, state)
			}
		}
		return nil
	})
	newer := []string{"i0", "i1", "i2", "i3"}
	for _, id := range newer {
		if err := k.Redis.Eval(t.Context(), ofTomorrow, []string{"rollcall:instance:" + id, "rollcall:events"}, id).Err(); err != nil {
			t.Fatal(err)
		}
	}
	backends["i4"].Is(harness.Refuses) // the only failing one
	for end, n := time.Now().Add(10*time.Second), 0; time.Now().Before(end); n++ {
		for id, form := range forms {
			if id == "i4" {
				continue
			}
			form.Set("tag", fmt.Sprint("n", n)) // so that each registration writes
			if said := call(n%2, form); said != "" && !strings.HasPrefix(said, "503") {
				t.Errorf("registering %s through %s: %s", id, []string{"the current web", "the older web"}[n%2], said)
			}
		}
		sleep(t.Context(), 500*time.Millisecond)
	}
	events, err := k.Redis.XRange(t.Context(), "rollcall:events", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	left := false
	for _, e := range events {
		var said struct{ Kind, Instance, Reason string }
		if err := json.Unmarshal([]byte(e.Values["event"].(string)), &said); err != nil {
			t.Fatal(err)
		}
		switch bad := said.Kind == "unhealthy" || said.Kind == "failed" || said.Kind == "gone"; {
		case bad && said.Instance == "i4":
			left = true
		case bad:
			t.Errorf("%s is %s: %s", said.Instance, said.Kind, said.Reason)
		}
	}
	if !left {
		t.Error("nobody noticed that i4 refuses connections")
	}
	for _, id := range newer {
		text := k.Redis.Get(t.Context(), "rollcall:instance:"+id).Val()
		if !strings.Contains(text, `"zone":{"rank":[1]}`) || !strings.Contains(text, `"zone":"c"`) || !strings.Contains(text, `"tags":["n`) {
			t.Errorf("%s lost a field of a newer version, or was not written at all: %s", id, text)
		}
	}
}

// before is the last commit before the schema was raised to 2. Its processes cannot run beside other
// versions.
const before = schema2 + "^"

func TestAProcessFromBeforeSchema2DoesNotStartAndChangesNothingIfItRuns(t *testing.T) {
	t.Parallel()
	older := buildAt(t, before)
	k := harness.NewStack(t, harness.StartRedis(t))
	for _, key := range []string{"schema", "clock", "vhosts", "webhooks"} { // schema 1, as that process begins
		k.Redis.Del(t.Context(), "rollcall:"+key)
	}
	web := harness.StartProcess(t, k.Env, older, "web")
	cron := harness.StartProcess(t, k.Env, older, "cron")
	base := "http://" + web.Addr("API")
	register := func(base, id string, b *harness.Backend) int {
		resp, err := http.PostForm(base+"/v1/register", harness.Registration(b, id, "older.chaos", "service", "older"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	b := harness.NewBackend(t)
	harness.Eventually(t, func() error {
		if status := register(base, "i1", b); status >= 300 {
			return fmt.Errorf("register: %d", status)
		}
		return nil
	})
	k.Process("cron")
	current := "http://" + k.Process("web").Addr("API")
	harness.Eventually(t, func() error {
		if !strings.Contains(cron.Log.String(), "WRONGTYPE") {
			return fmt.Errorf("the older cron still claims checks: %s", cron.Log.String())
		}
		return nil
	})
	if err := k.Redis.Eval(t.Context(), ofTomorrow, []string{"rollcall:instance:i1", "rollcall:events"}, "i1").Err(); err != nil {
		t.Fatal(err)
	}
	doc := k.Redis.Get(t.Context(), "rollcall:instance:i1").Val()
	if status := register(base, "i2", harness.NewBackend(t)); status != http.StatusInternalServerError {
		t.Errorf("a registration through the older web answers %d, want 500", status)
	}
	b.Is(harness.Refuses)
	sleep(t.Context(), 4*time.Second)
	if got := k.Redis.Get(t.Context(), "rollcall:instance:i1").Val(); got != doc {
		t.Errorf("the document changed from %s to %s", doc, got)
	}
	if status := register(current, "i3", harness.NewBackend(t)); status >= 300 {
		t.Errorf("a registration through the current web answers %d", status)
	}
	if code := harness.StartProcess(t, k.Env, older, "cron").End(); code == 0 {
		t.Error("an older cron starts on the newer schema")
	}
}

// Processes of schema 2 claim checks from queues that no longer exist. They watch the schema, and end by
// themselves.
func TestProcessesOfSchema2EndAndHarmNothing(t *testing.T) {
	t.Parallel()
	older := buildAt(t, lastSchema2)
	k := harness.NewStack(t, harness.StartRedis(t))
	for _, key := range []string{"schema", "ticks"} { // schema 2, as those processes begin
		k.Redis.Del(t.Context(), "rollcall:"+key)
	}
	k.Redis.Set(t.Context(), "rollcall:schema", 2, 0)
	web := harness.StartProcess(t, k.Env, older, "web")
	cron := harness.StartProcess(t, k.Env, older, "cron")
	backends := map[string]*harness.Backend{}
	states := func() map[string]string {
		all, err := harness.ReadAll(t.Context(), k.Redis)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for id, d := range all.Docs {
			found[id] = d.State
		}
		return found
	}
	awaitStates := func(because string, want map[string]string) {
		t.Helper()
		harness.Eventually(t, func() error {
			if got := states(); !maps.Equal(got, want) {
				return fmt.Errorf("%s the states are %v, want %v", because, got, want)
			}
			return nil
		})
	}
	want := map[string]string{}
	for n := range 5 {
		id := fmt.Sprint("i", n)
		backends[id] = harness.NewBackend(t)
		want[id] = "healthy"
		harness.Eventually(t, func() error {
			resp, err := http.PostForm("http://"+web.Addr("API")+"/v1/register", harness.Registration(backends[id], id, "older.chaos", "service", "older",
				"interval", "2s", "timeout", "2s", "fall", "3")) // two probes of 1 s can time out on a busy machine
			if err != nil {
				return err
			}
			_ = resp.Body.Close()
			if resp.StatusCode >= 300 {
				return fmt.Errorf("register %s: %d", id, resp.StatusCode)
			}
			return nil
		})
	}
	awaitStates("under schema 2", want)
	events := k.Redis.XLen(t.Context(), "rollcall:events").Val()
	current := k.Process("cron")
	for _, p := range []*harness.Process{web, cron} {
		code := p.Wait()
		if p.End(); code == 0 || !strings.Contains(p.Log.String(), "newer than this program") {
			t.Errorf("the older %s ends with %d: %s", p.Name, code, p.Log.String())
		}
	}
	k.Process("web")
	sleep(t.Context(), 3*time.Second)
	if got := states(); !maps.Equal(got, want) {
		t.Errorf("afterwards the states are %v, want %v", got, want)
	}
	stream := k.Redis.XRange(t.Context(), "rollcall:events", "-", "+").Val()
	for _, e := range stream[min(int(events), len(stream)):] {
		t.Errorf("an event, want none: %v", e.Values["event"])
	}
	backends["i3"].Is(harness.Refuses)
	want["i3"] = "unhealthy"
	awaitStates("once i3 refuses connections", want)
	for line := range strings.Lines(current.Log.String()) {
		if strings.Contains(line, `"level":"ERROR"`) && !strings.Contains(line, "unavailable") && !strings.Contains(line, "deadline exceeded") { // Redis, on a busy machine
			t.Errorf("the current cron says: %s", line)
		}
	}
}
