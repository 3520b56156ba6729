package redisstore_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/webhook"
)

// writtenByNewer adds the members of a JSON object to an instance's document, as a newer version may have written it.
func (s *site) writtenByNewer(t *testing.T, id, members string) {
	t.Helper()
	doc := map[string]any{}
	for _, text := range []string{s.rdb.Get(t.Context(), s.prefix+"instance:"+id).Val(), members} {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		for name, value := range m {
			if nested, ok := value.(map[string]any); ok && doc[name] != nil {
				maps.Copy(doc[name].(map[string]any), nested)
				continue
			}
			doc[name] = value
		}
	}
	rev, _ := json.Marshal(doc["rev"])
	delete(doc, "rev")
	rest, _ := json.Marshal(doc)
	if err := s.rdb.Set(t.Context(), s.prefix+"instance:"+id, `{"rev":`+string(rev)+`,`+string(rest[1:]), 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func (s *site) document(t *testing.T, id string) (doc map[string]any) {
	t.Helper()
	text := s.rdb.Get(t.Context(), s.prefix+"instance:"+id).Val()
	if !strings.HasPrefix(text, `{"rev":`) {
		t.Errorf("the document does not begin with its revision: %s", text)
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

const ofNewer = `{"zone":{"name":"a","rank":[1,12345678901234567890]},"check":{"tomorrow":[[200,204]],"retry":null},"override":{"by":"ann"}}`

func TestFieldsOfANewerVersionSurviveEveryWrite(t *testing.T) {
	t.Parallel()
	until := func(s *site) time.Time { return s.clock.Now().Add(time.Hour).Truncate(time.Millisecond) }
	for name, write := range map[string]func(*testing.T, *site) error{
		"an override": func(t *testing.T, s *site) error {
			_, _, err := s.verbs.Override(t.Context(), "i1", app.Override{Weight: 5, Until: until(s)})
			return err
		},
		"a drain": func(t *testing.T, s *site) error {
			_, _, err := s.verbs.Drain(t.Context(), "i1", "", time.Minute)
			return err
		},
		"a registration with other tags": func(t *testing.T, s *site) error {
			_, err := s.verbs.Register(t.Context(), saying(1, func(r *app.Registration) { r.Tags = []string{"new"} }))
			return err
		},
		"a registration with a check that this version reads otherwise": func(t *testing.T, s *site) error {
			_, err := s.verbs.Register(t.Context(), saying(1, func(r *app.Registration) { r.Health, r.Expect = "/", []string{"200,204"} }))
			return err
		},
		"a new start": func(t *testing.T, s *site) error {
			_, err := s.verbs.Register(t.Context(), saying(1, func(r *app.Registration) { r.Boot = "b2" }))
			return err
		},
		"another address": func(t *testing.T, s *site) error {
			_, err := s.verbs.Register(t.Context(), saying(1, func(r *app.Registration) { r.Address = "10.0.0.99" }))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1)
			if _, _, err := s.verbs.Override(t.Context(), "i1", app.Override{Weight: 2, Until: until(s)}); err != nil {
				t.Fatal(err)
			}
			s.writtenByNewer(t, "i1", ofNewer)
			before := s.document(t, "i1")
			if err := write(t, s); err != nil {
				t.Fatal(err)
			}
			after := s.document(t, "i1")
			for _, member := range []string{"zone", "check"} {
				if diff := cmp.Diff(before[member], after[member]); diff != "" {
					t.Errorf("%s (-before +after):\n%s", member, diff)
				}
			}
			if got := after["override"].(map[string]any)["by"]; got != "ann" {
				t.Errorf("override.by is %v, want ann", got)
			}
			if i := s.get(t, "i1"); i.Understood() || i.Override.Weight == 0 {
				t.Errorf("it is read as %+v, want it not understood and overridden", i)
			}
		})
	}
}

func TestFieldsOfANewerVersionGoWithTheObjectTheyAreIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	if _, _, err := s.verbs.Override(t.Context(), "i1", app.Override{Weight: 2, Until: s.clock.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	s.writtenByNewer(t, "i1", ofNewer)
	if _, _, err := s.verbs.Override(t.Context(), "i1", app.Override{}); err != nil {
		t.Fatal(err)
	}
	if doc := s.document(t, "i1"); doc["override"] != nil || doc["zone"] == nil {
		t.Errorf("after its override ended the document is %v", doc)
	}
}

func TestAnInstanceOfANewerVersionIsNotMendedAndNoWitness(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.writtenByNewer(t, "i1", `{"zone":"a"}`)
	before := s.document(t, "i1")
	s.do(t, "HSET ~vhost:a.test http://10.0.0.1:80 9_2_0_i1") // any number of slots that a newer version writes
	done, err := s.Reconcile(t.Context(), app.Everything)
	if err != nil || len(done.Instances) > 0 || len(done.Orphans) > 0 {
		t.Errorf("reconcile mended %+v, %v", done, err)
	}
	if diff := cmp.Diff(before, s.document(t, "i1")); diff != "" {
		t.Errorf("the document changed:\n%s", diff)
	}
}

func TestAHeartbeatForANewerVersionOnlyExtendsTheLease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(t, saying(1, func(r *app.Registration) { r.Hosts, r.Health = nil, "heartbeat" }))
	if err := s.verbs.Report(t.Context(), "i1", true, ""); err != nil {
		t.Fatal(err)
	}
	s.writtenByNewer(t, "i1", `{"zone":"a"}`)
	before, doc := s.get(t, "i1").AssertedAt, s.document(t, "i1")
	s.clock.Pass(3 * time.Second)
	if err := s.verbs.Report(t.Context(), "i1", true, ""); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, "i1").AssertedAt.Sub(before); got != 3*time.Second {
		t.Errorf("a good report moved the lease by %s, want 3s", got)
	}
	if err := s.verbs.Report(t.Context(), "i1", false, ""); !errors.Is(err, app.ErrUnavailable) {
		t.Errorf("a bad report: %v, want ErrUnavailable, so that the caller tries again", err)
	}
	if diff := cmp.Diff(doc, s.document(t, "i1")); diff != "" {
		t.Errorf("the document changed:\n%s", diff)
	}
}

func TestAnEventThatCannotBeReadStopsNoReader(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register(t, saying(1))
	s.do(t, `XADD ~events * event {"kind":7} doc ""`)
	s.do(t, `XADD ~events * event {"kind":"updated","instance":"i1"} doc {"rev":true}`)
	s.register(t, saying(2, hosts("b.test")))
	events, err := s.Events(t.Context(), "0", 10)
	if err != nil || len(events) != 4 || events[3].Instance != "i2" {
		t.Errorf("events %v, %v", events, err)
	}
}

func TestANewerVersionsExportIsExportedWholeAndNotImported(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.writtenByNewer(t, "i1", `{"check":{"tomorrow":[200]}}`)
	text := s.export(t)
	if !strings.Contains(text, `"tomorrow":[200]`) {
		t.Errorf("the export lacks check.tomorrow: %s", text)
	}
	to := newSite(t)
	if _, _, err := to.Import(t.Context(), strings.NewReader(text), to.verbs.Import); err == nil || !strings.Contains(err.Error(), "tomorrow") {
		t.Errorf("import: %v, want an error that names the field", err)
	}
}

func TestATokenOfANewerVersionHasNoScope(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := auth.Token{ID: "a", Name: "ci", Hash: []byte("hash"), Scopes: []auth.Scope{"admin"}, CreatedAt: s.clock.Now()}
	if err := s.Tokens().Add(t.Context(), token, app.Event{Kind: app.EventCreated}); err != nil {
		t.Fatal(err)
	}
	doc := s.rdb.HGet(t.Context(), s.prefix+"tokens", "a").Val()
	s.rdb.HSet(t.Context(), s.prefix+"tokens", "a", strings.TrimSuffix(doc, "}")+`,"networks":["10.0.0.0/8"]}`)
	got, _, err := s.Tokens().Read(t.Context())
	if err != nil || len(got) != 1 || got[0].Name != "ci" || got[0].Scopes != nil {
		t.Errorf("read %+v, %v; want the token without its scopes", got, err)
	}
}

func TestAWebhookOfANewerVersionIsLeftToIt(t *testing.T) {
	t.Parallel()
	for field, newer := range map[string]string{`"created"`: `"header":"Authorization: x","created"`, `"format":"event"`: `"format":"smtp"`} {
		s := newSite(t)
		hooks := s.Webhooks()
		hook := webhook.Webhook{ID: "wh-1", URL: "http://10.0.0.1/", Secret: "whsec_x", Format: webhook.EventFormat, Rate: 60, CreatedAt: s.clock.Now()}
		if err := hooks.Add(t.Context(), hook); err != nil {
			t.Fatal(err)
		}
		key := s.prefix + "webhook:wh-1"
		doc := s.rdb.HGet(t.Context(), key, "doc").Val()
		s.rdb.HSet(t.Context(), key, "doc", strings.Replace(doc, field, newer, 1), "zone", "a")
		s.register(t, saying(1))
		before := s.rdb.HGetAll(t.Context(), key).Val()
		if claims, _, err := hooks.Claim(t.Context(), 10); len(claims) > 0 || err != nil {
			t.Errorf("with %s it is claimed: %+v, %v", newer, claims, err)
		}
		if diff := cmp.Diff(before, s.rdb.HGetAll(t.Context(), key).Val()); diff != "" {
			t.Errorf("with %s the webhook changed:\n%s", newer, diff)
		}
		if due := s.rdb.ZScore(t.Context(), s.prefix+"subscriptions", "wh-1").Val(); due != float64(s.clock.Now().Add(time.Second).UnixMilli()) {
			t.Errorf("with %s it is due at %f, want in a second", newer, due)
		}
		if list, err := hooks.List(t.Context()); len(list) != 1 || err != nil {
			t.Errorf("with %s the list is %v, %v", newer, list, err)
		}
	}
}
