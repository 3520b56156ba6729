package handlers_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestAnAgentsNewRefusalsAreEvents(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	agent := s.token("register:web")
	report := func(body string) {
		t.Helper()
		s.call(http.MethodPut, "/v1/agents/host-1", strings.NewReader(body)).header("Content-Type", "application/json").as(agent).want(http.StatusNoContent)
	}
	report(`{"containers":3,"refused":{"shop-web-1":"label rollcall.colour is unknown; use rollcall.FIELD"}}`)
	report(`{"containers":3,"refused":{"shop-web-1":"label rollcall.colour is unknown; use rollcall.FIELD"}}`)
	report(`{"age":"5s","refused":{"shop-web-1":"label rollcall.port is missing","shop-web-2":"label rollcall.port is missing"}}`)
	report(`{"refused":{}}`)
	events, err := s.store.Events(t.Context(), "0", 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		if e.Kind == "container-refused" {
			got = append(got, e.Subject+": "+e.Reason)
		}
	}
	same(t, "events", got, []string{
		"host-1: container shop-web-1 is not registered: label rollcall.colour is unknown; use rollcall.FIELD",
		"host-1: container shop-web-1 is not registered: label rollcall.port is missing",
		"host-1: container shop-web-2 is not registered: label rollcall.port is missing",
	})
	reports, err := s.store.Agents(t.Context())
	if err != nil || len(reports.Agents) != 1 || len(reports.Agents[0].Refused) != 0 || s.store.Now().Before(reports.Agents[0].SyncedAt) {
		t.Errorf("the last report is %+v, %v", reports, err)
	}
}

func TestAnAgentsReportIsChecked(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	for path, field := range map[string]string{
		"/v1/agents/-?containers=1": "node", "/v1/agents/n1?containers=-1": "containers", "/v1/agents/n1?age=-1s": "age", "/v1/agents/n1?colour=blue": "colour",
	} {
		if p := s.call(http.MethodPut, path, nil).as(boss).problem(http.StatusUnprocessableEntity); p.Field != field {
			t.Errorf("%s: got %+v, want %s to be at fault", path, p, field)
		}
	}
}
