package handlers_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"rollcall/app/history"
	"rollcall/app/ownership"
)

func TestHistoryAnswersWithStatisticsAndDepartures(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.get("/v1/services/web/history").want(http.StatusNotFound)
	s.register("service", "web", "id", "web-1", "address", "10.0.0.7:80", "host", "shop.example.com", "health", "none")
	h := s.store.History(history.Default)
	owned, err := s.store.Own(t.Context(), ownership.Call{Worker: "w", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := history.Record{Observed: 40 * time.Second, Up: 30 * time.Second, Flips: 2, Joined: 1, Instances: 3}
	for range 9 {
		r.Check(true, 20*time.Millisecond)
	}
	r.Check(false, time.Second)
	shard := ownership.ShardOf("web")
	batch := history.Batch{Worker: "w", Number: 1, Terms: map[int]string{shard: string(owned.Owned[shard])}, Series: map[string]history.Contribution{
		history.ServiceSeries("web"):            {At: s.store.Now(), Record: r},
		history.VhostSeries("shop.example.com"): {At: s.store.Now(), Record: history.Record{Observed: time.Minute, Up: time.Second * 15}},
	}}
	if refused, err := h.Contribute(t.Context(), batch); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	s.call(http.MethodDelete, "/v1/instances/web-1", nil).want(http.StatusNoContent)
	s.register("service", "web", "id", "web-2", "address", "10.0.0.8:80", "host", "shop.example.com", "health", "none")
	type numbers struct {
		P50 *float64 `json:"p50_ms"`

		Availability                             *float64
		Passed, Failed, Flips, Joined, Instances int
	}
	var got struct {
		Range   string
		Total   numbers
		Buckets []numbers
		Vhosts  []struct {
			Host         string
			Availability *float64
		}
		Departed []history.Departure
	}
	for rng, buckets := range map[string]int{"1h": 60, "24h": 24, "7d": 168, "30d": 720} {
		w := s.get("/v1/services/web/history?range=" + rng).want(http.StatusOK)
		got.Departed, got.Vhosts = nil, nil
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%v in %s", err, w.Body)
		}
		if len(got.Buckets) != buckets || got.Range != rng {
			t.Errorf("%s has %d buckets", rng, len(got.Buckets))
		}
		n := got.Total
		if n.Availability == nil || *n.Availability != 0.75 || n.Passed != 9 || n.Failed != 1 || n.Flips != 2 || n.Joined != 1 || n.Instances != 3 {
			t.Errorf("the total of %s is %+v", rng, n)
		}
		if n.P50 == nil || *n.P50 < 20/1.42 || *n.P50 > 20*1.42 {
			t.Errorf("the median is %v ms, want 20", n.P50)
		}
		if got.Buckets[0].Availability != nil {
			t.Errorf("a bucket before Rollcall ran has an availability: %v", *got.Buckets[0].Availability)
		}
	}
	if len(got.Vhosts) != 1 || got.Vhosts[0].Host != "shop.example.com" || got.Vhosts[0].Availability == nil || *got.Vhosts[0].Availability != 0.25 {
		t.Errorf("the vhosts are %+v", got.Vhosts)
	}
	if len(got.Departed) != 1 || got.Departed[0].Instance != "web-1" || got.Departed[0].Reason != "deregistered" || got.Departed[0].From != "healthy" {
		t.Errorf("these left: %+v", got.Departed)
	}
}

func TestHistoryNamesAWrongRange(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, query := range []string{"range=2h", "range=1h&range=24h", "span=1h"} {
		w := s.get("/v1/services/web/history?" + query).want(http.StatusUnprocessableEntity)
		var problem struct{ Field string }
		_ = json.Unmarshal(w.Body.Bytes(), &problem)
		if want := map[bool]string{true: "span", false: "range"}[query == "span=1h"]; problem.Field != want {
			t.Errorf("%s is answered %s, want a problem that names %s", query, w.Body, want)
		}
	}
}
